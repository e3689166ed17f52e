"""Keys that a machine makes for itself, and what they sign."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shared import releases
from shared.errors import KeyUnusable
from shared.signatures import Signer, TrustedKeys
from tests.candidates import contestant, write_signed
from training.admission import admitted
from training.export import export
from training.keys import PRIVATE, PUBLIC, ensure

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def candidate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_signed(tmp_path_factory.mktemp("candidates") / "one", contestant(1), signer=None)


def test_nobody_else_can_read_the_private_key(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ensure(tmp_path / "keys")
    finally:
        os.umask(before)
    assert (tmp_path / "keys" / PRIVATE).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys" / PUBLIC).stat().st_mode & 0o777 == 0o666
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == [PRIVATE, PUBLIC]


def test_keys_are_made_once_and_a_lost_public_one_comes_back(tmp_path: Path) -> None:
    first = ensure(tmp_path)
    (tmp_path / PUBLIC).unlink()
    assert ensure(tmp_path).pem() == first.pem()
    assert TrustedKeys.load(tmp_path / PUBLIC).pem() == first.trusted.pem()


def test_a_file_that_is_no_key_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / PRIVATE).write_text("precious")
    with pytest.raises(KeyUnusable):
        ensure(tmp_path)
    assert (tmp_path / PRIVATE).read_text() == "precious"


def test_a_new_key_signs_what_was_there_before_it_and_no_later_call_does(candidate: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    export(candidate, models)
    shutil.copytree(models / "mien_000001", models / "mien_000009")  # damaged: it says that it is release 1
    signer = ensure(tmp_path / "keys", models=models)
    assert releases.load(models, 1, trusted=signer.trusted).version == 1
    assert not (models / "mien_000009" / releases.SIGNATURE).exists()
    (models / "mien_000001" / releases.SIGNATURE).unlink()
    ensure(tmp_path / "keys", models=models)
    assert not (models / "mien_000001" / releases.SIGNATURE).exists()


def test_the_command_makes_keys_and_signs_a_candidate(candidate: Path, tmp_path: Path) -> None:
    def keys(*arguments: object) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "training.keys", *map(str, arguments)]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60)

    assert keys("--out", tmp_path / "private", "--public", tmp_path / "anyone.pem").returncode == 0
    mine = Path(shutil.copytree(candidate, tmp_path / "candidate"))
    assert keys("--sign", mine, "--key", tmp_path / "private" / PRIVATE).returncode == 0
    assert admitted(mine, trusted=TrustedKeys.load(tmp_path / "anyone.pem")).version == 1
    refused = keys("--sign", mine, "--key", tmp_path / "anyone.pem")
    assert (refused.returncode, refused.stderr.startswith(KeyUnusable.title())) == (1, True)
    assert Signer.load(tmp_path / "private" / PRIVATE).trusted.check(mine)
