"""From a candidate to the champion, with a real Triton and a real Redis; and everything that stops it on the way."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from shared import releases
from shared.errors import (
    CandidateHostile,
    CandidateNotNewer,
    CandidateUnsigned,
    CandidateWorse,
    InferenceError,
    InferenceInvalidOutput,
    InferenceUnavailable,
    InsufficientStorage,
    MienError,
    ModelContractMismatch,
    ModelDigestMismatch,
    ModelVersionUnavailable,
    NothingToRollBack,
    PublicationConflict,
    QueueUnavailable,
    ReleaseUnsigned,
)
from shared.queue import CHAMPION, WorkerQueue
from shared.releases import WEIGHTS, load, published
from tests.candidates import SIGNER, STRANGER, contestant, write_signed
from tests.painted import painted_clips, write_painted_store
from tests.triton_server import StartTriton, Triton
from training.export import export
from training.gate import Gate
from training.publish import Publisher
from training.repository import History, Repository

GATE = Gate(latency_ratio=1000)
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_painted_store(tmp_path_factory.mktemp("crops") / "painted", 140, seed=3)


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Releases 1 to 5, which know painted faces, each a network of its own."""
    folder = tmp_path_factory.mktemp("candidates")
    return {version: write_signed(folder / str(version), contestant(version, seed=version)) for version in range(1, 6)}


@pytest.fixture
def aliases(redis_url: str) -> Iterator[WorkerQueue]:
    queue = WorkerQueue(redis_url)
    yield queue
    queue.close()


@dataclass(frozen=True, kw_only=True)
class Place:
    """A repository with release 1, and who publishes there."""

    models: Path
    publisher: Publisher
    aliases: WorkerQueue
    triton: Triton | None = None

    def listing(self) -> dict[str, Any]:
        """Everything in the repository, and the aliases: what a refused candidate may not change."""
        files = {str(path.relative_to(self.models)): path.lstat().st_mtime_ns for path in self.models.rglob("*") if path.name != ".lock"}
        return files | {"champion": self.aliases.alias(CHAMPION), "history": self.aliases.alias_history(CHAMPION)}

    def ready(self) -> set[int]:
        assert self.triton
        return {v for v in range(1, 10) if all(self.triton.is_ready(releases.model_name(v, graph)) for graph in releases.GRAPHS)}

    def history(self) -> History:
        return Repository(self.models).history()


def publisher(models: Path, frozen: Path, aliases: WorkerQueue, *, triton: str = NOBODY, **options: Any) -> Publisher:
    return Publisher(
        **{
            "models": models,
            "frozen": [frozen],
            "signer": SIGNER,
            "trusted": SIGNER.trusted,
            "aliases": aliases,
            "triton_http": triton,
            "gate": GATE,
            **options,
        }
    )


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, candidates: dict[int, Path]) -> Path:
    models = tmp_path_factory.mktemp("first") / "models"
    export(candidates[1], models, signer=SIGNER)
    return models


@pytest.fixture
def place(first: Path, frozen: Path, aliases: WorkerQueue, tmp_path: Path) -> Place:
    """Nobody serves here: what is refused is refused before Triton is asked."""
    models = Path(shutil.copytree(first, tmp_path / "models", symlinks=True))
    aliases.promote(CHAMPION, 1)
    return Place(models=models, publisher=publisher(models, frozen, aliases), aliases=aliases)


# --- with a Triton that serves ---------------------------------------------------------------------------------------


def test_three_releases_one_after_the_other_and_back_again(
    first: Path, frozen: Path, aliases: WorkerQueue, candidates: dict[int, Path], start_triton: StartTriton, tmp_path: Path
) -> None:
    folders = [Path(shutil.copytree(first, tmp_path / name, symlinks=True)) for name in ("models", "elsewhere")]
    with start_triton(folders[0]) as triton:
        place, other = (
            Place(models=models, publisher=publisher(models, frozen, aliases, triton=triton.http), aliases=aliases, triton=triton)
            for models in folders
        )
        the_second_becomes_champion_and_the_first_stays_loaded(place, candidates)
        a_third_that_is_not_promoted_changes_nothing_for_clients(place, candidates)
        the_third_is_promoted_and_the_first_unloaded(place)
        a_rollback_takes_one_step_and_a_second_one_loads_what_it_goes_back_to(place)
        what_triton_does_not_serve_right_leaves_no_trace(place, other, candidates, tmp_path)


def the_second_becomes_champion_and_the_first_stays_loaded(place: Place, candidates: dict[int, Path]) -> None:
    assert place.aliases.alias(CHAMPION) is None
    release = place.publisher.publish(candidates[2])
    assert release == load(place.models, 2, trusted=SIGNER.trusted)
    assert place.aliases.alias(CHAMPION) == 2
    assert place.ready() == {1, 2}
    entry = place.history().releases[-1]
    assert (entry.version, entry.champion) == (2, 1)
    assert {"accuracy", "macro-F1", "recall of the worst class", "milliseconds per face"} <= {check.name for check in entry.checks}
    before = place.listing()
    assert place.publisher.publish(candidates[2]) == release
    assert place.listing() == before


def a_third_that_is_not_promoted_changes_nothing_for_clients(place: Place, candidates: dict[int, Path]) -> None:
    place.publisher.publish(candidates[3], promote=False)
    assert place.aliases.alias(CHAMPION) == 2
    assert published(place.models) == [1, 2, 3]


def the_third_is_promoted_and_the_first_unloaded(place: Place) -> None:
    place.publisher.promote(3)
    assert (place.aliases.alias(CHAMPION), place.aliases.alias_history(CHAMPION)) == (3, (2, 1))
    assert place.ready() == {2, 3}
    assert published(place.models) == [1, 2, 3]


def a_rollback_takes_one_step_and_a_second_one_loads_what_it_goes_back_to(place: Place) -> None:
    began = perf_counter()
    assert place.publisher.rollback() == 2
    assert perf_counter() - began < 5
    assert place.publisher.rollback() == 1
    assert place.aliases.alias(CHAMPION) == 1
    assert 1 in place.ready()
    with pytest.raises(NothingToRollBack):
        place.publisher.rollback()


def what_triton_does_not_serve_right_leaves_no_trace(place: Place, other: Place, candidates: dict[int, Path], tmp_path: Path) -> None:
    """The other publisher writes into another repository than the one that Triton reads: release 3 is not the same there."""
    before = other.listing(), place.ready()
    with pytest.raises(InferenceError, match="mien_000005_frames"):
        other.publisher.publish(candidates[5])
    assert (other.listing(), place.ready()) == before
    with pytest.raises(InferenceInvalidOutput, match="does not give the network's numbers"):
        other.publisher.publish(write_signed(tmp_path / "impostor", contestant(3, seed=30)))
    assert (other.listing(), place.ready()) == before


# --- what is refused changes nothing ---------------------------------------------------------------------------------


def stray(folder: Path) -> None:
    (folder / "weights.pt").write_bytes(b"code")


def swapped(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[::-1])


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (stray, CandidateHostile),
        (swapped, ModelDigestMismatch),
        (STRANGER.sign, CandidateUnsigned),
        (lambda folder: (folder / releases.SIGNATURE).unlink(), CandidateUnsigned),
        (shutil.rmtree, ModelVersionUnavailable),
    ],
    ids=["hostile", "wrong-hash", "stranger", "unsigned", "missing"],
)
def test_a_candidate_that_cannot_be_trusted(place: Place, candidates: dict[int, Path], tmp_path: Path, harm, error) -> None:
    candidate = Path(shutil.copytree(candidates[2], tmp_path / "candidate"))
    harm(candidate)
    refused(place, candidate, error)


def refused(place: Place, candidate: Path, error: type[MienError], match: str | None = None) -> None:
    before = place.listing()
    with pytest.raises(error, match=match):
        place.publisher.publish(candidate)
    assert place.listing() == before


def rewritten(folder: Path, change) -> Path:
    """Weights that somebody trusted signed, and that are not the network's."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    path = folder / "release.json"
    said = json.loads(path.read_text())
    said["files"][WEIGHTS] = releases.file_sha256(folder / WEIGHTS)
    path.write_text(json.dumps(said))
    SIGNER.sign(folder)
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors["clip.output.bias"].fill_(float("nan")), "NaN"),
        (lambda tensors: tensors.pop("clip.output.bias"), "clip.output.bias"),
        (lambda tensors: tensors.update({"clip.output.bias": tensors["clip.output.bias"][:3].clone()}), "size mismatch"),
    ],
    ids=["nan", "missing", "shape"],
)
def test_weights_that_are_not_the_networks(place: Place, candidates: dict[int, Path], tmp_path: Path, change, said: str) -> None:
    candidate = rewritten(Path(shutil.copytree(candidates[2], tmp_path / "candidate")), change)
    refused(place, candidate, ModelContractMismatch, said)


def test_signed_bytes_that_are_no_safetensors(place: Place, candidates: dict[int, Path], tmp_path: Path) -> None:
    candidate = Path(shutil.copytree(candidates[2], tmp_path / "candidate"))
    (candidate / WEIGHTS).write_bytes(b"\x80\x04pickle")
    path = candidate / "release.json"
    said = json.loads(path.read_text())
    said["files"][WEIGHTS] = releases.file_sha256(candidate / WEIGHTS)
    path.write_text(json.dumps(said))
    SIGNER.sign(candidate)
    refused(place, candidate, ModelContractMismatch, WEIGHTS)


def test_a_worse_candidate_says_what_is_worse(place: Place, tmp_path: Path) -> None:
    wrong = painted_clips(210, seed=9)
    ignorant = contestant(2, knows=wrong.with_targets(wrong.targets.roll(1, dims=1)))
    before = place.listing()
    with pytest.raises(CandidateWorse) as caught:
        place.publisher.publish(write_signed(tmp_path / "candidate", ignorant))
    assert place.listing() == before
    assert any("accuracy" in reason and "the champion's is" in reason for reason in caught.value.extra["reasons"])


def test_a_version_that_was_ever_published_is_never_used_again(place: Place, candidates: dict[int, Path], tmp_path: Path) -> None:
    export(candidates[3], place.models, signer=SIGNER)
    refused(place, candidates[2], CandidateNotNewer, "not above 3")
    refused(place, write_signed(tmp_path / "other", contestant(3, seed=30)), CandidateNotNewer)
    Repository(place.models).withdraw(3)
    refused(place, candidates[3], CandidateNotNewer)


def test_a_history_that_cannot_be_read_does_not_pass_for_none(place: Place, candidates: dict[int, Path]) -> None:
    (place.models / "history.json").write_text("{")
    refused(place, candidates[2], ModelContractMismatch, "history")


def test_a_triton_that_does_not_answer_leaves_no_trace(place: Place, candidates: dict[int, Path]) -> None:
    before = {path: stat for path, stat in place.listing().items() if path != "."}
    with pytest.raises(InferenceUnavailable):
        place.publisher.publish(candidates[2])
    assert place.listing() == before
    with pytest.raises(InferenceUnavailable):
        place.publisher.promote(1)


def test_what_is_canceled_before_the_repository_changes_leaves_no_trace(place: Place, candidates: dict[int, Path], tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []

    def canceled() -> None:
        asked.append(place.listing())
        raise SystemExit(75)

    before = place.listing()
    with pytest.raises(SystemExit):
        place.publisher.publish(candidates[2], commit=canceled)
    assert asked == [before], "measured, and nothing has been written"
    assert place.listing() == before
    with pytest.raises(CandidateNotNewer):
        place.publisher.publish(write_signed(tmp_path / "old", contestant(1, seed=30)), commit=canceled)
    assert len(asked) == 1, "what is refused needs no canceling"


def test_only_one_publishes_at_a_time(place: Place, candidates: dict[int, Path]) -> None:
    with Repository(place.models).changing():
        refused(place, candidates[2], PublicationConflict)
        with pytest.raises(PublicationConflict):
            export(candidates[2], place.models)


def test_a_champion_that_was_tampered_with_is_not_measured_against(place: Place, candidates: dict[int, Path]) -> None:
    (place.models / "mien_000001" / releases.SIGNATURE).unlink()
    refused(place, candidates[2], ReleaseUnsigned)


def test_nothing_goes_back_to_a_release_that_is_not_what_was_published(place: Place, candidates: dict[int, Path]) -> None:
    with pytest.raises(NothingToRollBack):
        place.publisher.rollback()
    export(candidates[2], place.models, signer=SIGNER)
    place.aliases.promote(CHAMPION, 2)
    (place.models / "mien_000001" / "frames" / "1" / "model.pt").write_bytes(b"code")
    with pytest.raises(ModelDigestMismatch):
        place.publisher.rollback()
    with pytest.raises(ModelVersionUnavailable):
        place.publisher.promote(7)
    assert place.aliases.alias(CHAMPION) == 2


def test_a_redis_that_is_away_stops_it_before_anything_changes(place: Place, frozen: Path, candidates: dict[int, Path]) -> None:
    away = WorkerQueue("redis://127.0.0.1:9/0")
    before = place.listing()
    with pytest.raises(QueueUnavailable):
        publisher(place.models, frozen, away).publish(candidates[2])
    away.close()
    assert place.listing() == before


def test_a_full_disk_leaves_nothing(candidates: dict[int, Path], small_disk: Path) -> None:
    models = small_disk / "models"
    with pytest.raises(InsufficientStorage):
        export(candidates[1], models, signer=SIGNER)
    assert [path.name for path in models.iterdir()] == [".lock"]
    assert published(models) == []
