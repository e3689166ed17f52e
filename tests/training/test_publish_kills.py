"""Killed at any moment, the repository is old or new, never between; and publishing again is all there is to do."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from shared.queue import CHAMPION, WorkerQueue
from shared.releases import GRAPHS, load, model_name, published
from shared.signatures import Signer, TrustedKeys
from tests.candidates import SIGNER, contestant, write_signed
from tests.painted import write_painted_store
from tests.triton_server import StartTriton
from training.export import export
from training.gate import Gate
from training.keys import PRIVATE, PUBLIC
from training.publish import Publisher
from training.repository import ASIDE, Repository

REPOSITORY = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "tests.training.publication_program"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def candidate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_signed(tmp_path_factory.mktemp("candidates") / "2", contestant(2, seed=2))


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "signing.pem"
    path.write_bytes(SIGNER.pem())
    return path


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with release 1."""
    folder = tmp_path_factory.mktemp("old")
    export(write_signed(folder / "1", contestant(1)), folder / "models", signer=SIGNER)
    return folder / "models"


Fork = Callable[..., dict[str, int]]


@pytest.fixture(scope="module")
def fork() -> Iterator[Fork]:
    """Has a change made by a process that dies as it is about to change the disk for the n-th time; n is 0 for one that lives."""
    with subprocess.Popen(
        [*PROGRAM, "forks"], cwd=REPOSITORY, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdin
        assert program.stdout
        talking, listening = program.stdin, program.stdout

        def ask(action: str, *, at: int = 0, **order: Path) -> dict[str, int]:
            talking.write(json.dumps({"action": action, "at": at, **order}, default=str) + "\n")
            talking.flush()
            answer: dict[str, int] = json.loads(listening.readline())
            return answer

        yield ask
        talking.close()


def names(models: Path) -> list[str]:
    return sorted(path.name for path in models.iterdir())


def is_whole(models: Path) -> list[int]:
    """The versions in a repository, each of which a worker would take and Triton would find."""
    versions = published(models)
    for version in versions:
        load(models, version, trusted=SIGNER.trusted)
        for graph in GRAPHS:
            assert (models / model_name(version, graph) / "1" / "model.pt").is_file()
    return versions


def copied(models: Path, to: Path) -> Path:
    return Path(shutil.copytree(models, to, symlinks=True))


def test_killed_at_every_change_of_the_disk_while_it_exports(fork: Fork, candidate: Path, old: Path, key: Path, tmp_path: Path) -> None:
    unharmed = copied(old, tmp_path / "unharmed")
    changes = fork("export", models=unharmed, candidate=candidate, key=key)["changes"]
    assert changes > 20
    seen = []
    for at in range(1, changes + 1):
        models = copied(old, tmp_path / str(at))
        assert fork("export", at=at, models=models, candidate=candidate, key=key)["status"] == KILLED
        seen.append(is_whole(models))
        if at % 3 == changes % 3:  # often enough, since each takes a second; the last one among them
            assert fork("export", models=models, candidate=candidate, key=key)["status"] == 0
            assert is_whole(models) == [1, 2]
            assert names(models) == names(unharmed)
    assert seen[0] == [1]
    assert seen[-1] == [1, 2]
    assert seen == sorted(seen), "old, then new, and nothing else"


def test_killed_at_every_change_of_the_disk_while_it_takes_a_release_back(
    fork: Fork, candidate: Path, old: Path, key: Path, tmp_path: Path
) -> None:
    new = copied(old, tmp_path / "new")
    export(candidate, new, signer=SIGNER)
    changes = fork("withdraw", models=copied(new, tmp_path / "unharmed"))["changes"]
    seen = []
    for at in range(1, changes + 1):
        models = copied(new, tmp_path / str(at))
        assert fork("withdraw", at=at, models=models)["status"] == KILLED
        seen.append(is_whole(models))
        with Repository(models).changing():
            assert names(models) == names(new if seen[-1] == [1, 2] else old)
    assert seen[0] == [1, 2]
    assert seen[-1] == [1]
    assert seen == sorted(seen, reverse=True)


def test_killed_at_every_change_of_the_disk_while_it_makes_keys(fork: Fork, candidate: Path, tmp_path: Path) -> None:
    """Whoever finds a key finds what was there before it signed."""
    unsigned = tmp_path / "unsigned"
    export(candidate, unsigned)
    changes = fork("make keys", models=copied(unsigned, tmp_path / "unharmed"), keys=tmp_path / "keys")["changes"]
    for at in range(1, changes + 1):
        models, keys = copied(unsigned, tmp_path / str(at)), tmp_path / f"{at}-keys"
        assert fork("make keys", at=at, models=models, keys=keys)["status"] == KILLED
        if (keys / PRIVATE).exists():
            load(models, 2, trusted=Signer.load(keys / PRIVATE).trusted)
        assert fork("make keys", models=models, keys=keys)["status"] == 0
        load(models, 2, trusted=TrustedKeys.load(keys / PUBLIC))


def test_what_killed_processes_leave_does_not_pile_up(fork: Fork, candidate: Path, old: Path, key: Path, tmp_path: Path) -> None:
    models = copied(old, tmp_path / "models")
    for at in (5, 8, 11):
        assert fork("export", at=at, models=models, candidate=candidate, key=key)["status"] == KILLED
        assert len([name for name in names(models) if name.startswith(ASIDE)]) == 1


def test_killed_while_triton_loads_and_before_the_alias_moves(
    candidate: Path, old: Path, key: Path, tmp_path: Path, redis_url: str, start_triton: StartTriton
) -> None:
    models = copied(old, tmp_path / "models")
    frozen = write_painted_store(tmp_path / "painted", 140, seed=3)
    aliases = WorkerQueue(redis_url)
    aliases.promote(CHAMPION, 1)
    with start_triton(models) as triton:

        def killed(moment: str) -> None:
            order: dict[str, Any] = {"models": models, "candidate": candidate, "frozen": frozen, "key": key, "redis": redis_url}
            environment = {**ENVIRONMENT, "TRITON_PORT": str(urlsplit(triton.http).port)}
            line = json.dumps({**order, "triton": triton.http, "moment": moment}, default=str)
            ended = subprocess.run([*PROGRAM, "publish"], cwd=REPOSITORY, env=environment, input=line, text=True, check=False)
            assert ended.returncode == KILLED
            assert (aliases.alias(CHAMPION), aliases.alias_history(CHAMPION)) == (1, ())
            assert is_whole(models) == [1, 2]
            assert all(triton.is_ready(model_name(1, graph)) for graph in GRAPHS)

        for moment in ("loading", "remembering", "remembered"):
            killed(moment)
        publisher = Publisher(
            models=models,
            frozen=[frozen],
            signer=SIGNER,
            trusted=SIGNER.trusted,
            aliases=aliases,
            triton_http=triton.http,
            gate=Gate(latency_ratio=1000),
        )
        assert publisher.publish(candidate).version == 2
        assert aliases.alias(CHAMPION) == 2
        assert publisher.rollback() == 1
    aliases.close()
