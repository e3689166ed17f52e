"""What a candidate's folder may be, before anything in it is loaded."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.errors import (
    CandidateHostile,
    CandidateRefused,
    CandidateUnsigned,
    ModelContractMismatch,
    ModelDigestMismatch,
    ModelVersionUnavailable,
    ReleaseError,
)
from shared.releases import CARD, WEIGHTS, file_sha256
from tests.candidates import SIGNER, STRANGER, contestant, write_signed
from training.admission import admitted


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_signed(tmp_path_factory.mktemp("candidates") / "whole", contestant(4))


@pytest.fixture
def candidate(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "candidate"))


def resigned(folder: Path, **changes: object) -> None:
    """What somebody with a trusted key may get wrong."""
    path = folder / "release.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    SIGNER.sign(folder)


def test_a_whole_candidate_is_admitted(candidate: Path) -> None:
    release = admitted(candidate, trusted=SIGNER.trusted)
    assert release.version == 4
    assert set(release.files) == {WEIGHTS, CARD}


def test_a_candidate_needs_no_card(candidate: Path) -> None:
    (candidate / CARD).unlink()
    resigned(candidate, files={WEIGHTS: file_sha256(candidate / WEIGHTS)})
    assert set(admitted(candidate, trusted=SIGNER.trusted).files) == {WEIGHTS}


def test_what_a_killed_run_left_half_written_is_gone_when_the_candidate_is_signed(candidate: Path) -> None:
    for name in (WEIGHTS, "release.json.sig"):
        (candidate / f".{name}.{'0' * 32}").write_bytes(b"half")
    with pytest.raises(CandidateHostile):
        admitted(candidate, trusted=SIGNER.trusted)
    (candidate / ".hidden").touch()
    SIGNER.sign(candidate)
    with pytest.raises(CandidateHostile, match=r"^'\.hidden'[^;]*$"):
        admitted(candidate, trusted=SIGNER.trusted)
    (candidate / ".hidden").unlink()
    assert admitted(candidate, trusted=SIGNER.trusted).version == 4


class Bomb:
    """What a hostile pickle is: code that runs as it is read."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch /tmp/mien-was-here",)


def naming(folder: Path, name: str, digest: str = "0" * 64) -> None:
    resigned(folder, files={each: file_sha256(folder / each) for each in (WEIGHTS, CARD)} | {name: digest})


def pickled(folder: Path) -> None:
    (folder / "weights.pkl").write_bytes(pickle.dumps(Bomb()))


def linked(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder.parent / WEIGHTS)
    (folder / WEIGHTS).symlink_to(f"../{WEIGHTS}")


def piped(folder: Path) -> None:
    (folder / CARD).unlink()
    os.mkfifo(folder / CARD)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (pickled, "weights.pkl"),
        (lambda folder: (folder / "model.pt").write_bytes(b"graph"), "model.pt"),
        (lambda folder: (folder / "setup.py").write_text("import os"), "setup.py"),
        (lambda folder: (folder / ".hidden").write_text(""), ".hidden"),
        (lambda folder: (folder / "frames").mkdir(), "frames"),
        (lambda folder: (folder / "escape").symlink_to("/etc/passwd"), "escape"),
        (linked, "no plain file"),
        (piped, "no plain file"),
        (lambda folder: os.truncate(folder / "release.json", 2**23), "larger than"),
        (lambda folder: naming(folder, "../../secret"), "secret"),
        (lambda folder: naming(folder, "/etc/passwd"), "passwd"),
        (lambda folder: naming(folder, "release.json"), "names 'release.json'"),
    ],
    ids=["pickle", "torchscript", "python", "hidden", "folder", "link", "linked-weights", "pipe", "huge", "parent", "absolute", "manifest"],
)
def test_what_could_run_or_lead_elsewhere_is_hostile(candidate: Path, harm: Callable[[Path], object], said: str) -> None:
    harm(candidate)
    with pytest.raises(CandidateHostile, match=said) as caught:
        admitted(candidate, trusted=SIGNER.trusted)
    assert caught.value.extra["reasons"]
    assert isinstance(caught.value, CandidateRefused)


def test_a_name_that_leads_elsewhere_is_hostile_though_its_digest_is_right(candidate: Path) -> None:
    secret = candidate.parent / "secret"
    secret.write_text("secret")
    naming(candidate, "../secret", file_sha256(secret))
    with pytest.raises(CandidateHostile, match="secret"):
        admitted(candidate, trusted=SIGNER.trusted)


def test_a_pickle_that_is_called_weights_is_never_unpickled(candidate: Path) -> None:
    (candidate / WEIGHTS).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelDigestMismatch):
        admitted(candidate, trusted=SIGNER.trusted)
    assert not Path("/tmp/mien-was-here").exists()  # noqa: S108


def edited(folder: Path) -> None:
    path = folder / "release.json"
    path.write_text(path.read_text().replace('"version": 4', '"version": 5'))


@pytest.mark.parametrize(
    "harm",
    [lambda folder: (folder / "release.json.sig").unlink(), STRANGER.sign, edited],
    ids=["unsigned", "by-a-stranger", "edited"],
)
def test_a_candidate_that_nobody_trusted_vouches_for_is_refused(candidate: Path, harm: Callable[[Path], object]) -> None:
    harm(candidate)
    with pytest.raises(CandidateUnsigned) as caught:
        admitted(candidate, trusted=SIGNER.trusted)
    assert caught.value.extra["reasons"] == [caught.value.detail]


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (lambda folder: resigned(folder, files={WEIGHTS: "0" * 64, CARD: file_sha256(folder / CARD)}), ModelDigestMismatch),
        (lambda folder: resigned(folder, files={WEIGHTS: file_sha256(folder / WEIGHTS)}), ModelContractMismatch),
        (lambda folder: resigned(folder, files={}), ModelContractMismatch),
        (lambda folder: resigned(folder, labels=["happy", "sad"]), ModelContractMismatch),
        (lambda folder: resigned(folder, preprocess="p0"), ModelContractMismatch),
        (lambda folder: resigned(folder, size=33), ModelContractMismatch),
        (lambda folder: resigned(folder, surprise=1), ModelContractMismatch),
        (lambda folder: (folder / CARD).write_text("the best"), ModelDigestMismatch),
        (shutil.rmtree, ModelVersionUnavailable),
    ],
    ids=["wrong-hash", "unnamed-card", "names-nothing", "labels", "preprocess", "size", "field", "other-card", "no-candidate"],
)
def test_what_was_signed_must_fit_and_be_there(candidate: Path, harm: Callable[[Path], object], error: type[ReleaseError]) -> None:
    harm(candidate)
    with pytest.raises(error):
        admitted(candidate, trusted=SIGNER.trusted)
