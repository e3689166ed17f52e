"""Which release new jobs are pinned to, from a model repository on disk and an alias in a real Redis."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.preprocess.champion import Champion
from shared.queue import WorkerQueue
from shared.releases import Release, folder_name
from shared.signatures import Signer


@pytest.fixture
def queue(redis_url: str) -> Iterator[WorkerQueue]:
    queue = WorkerQueue(redis_url)
    yield queue
    queue.close()


def publish(models: Path, version: int) -> Path:
    folder = models / folder_name(version)
    folder.mkdir(parents=True)
    (folder / "model.pt").write_bytes(b"weights")
    release = Release(
        version=version,
        size=32,
        width=0.5,
        feature_size=8,
        training={},
        metrics={},
        data=(),
        commit="0" * 40,
        notes="judges nothing: for a test",
        files={"model.pt": hashlib.sha256(b"weights").hexdigest()},
    )
    (folder / "release.json").write_text(release.model_dump_json())
    return folder


def champion(queue: WorkerQueue, models: Path, *, ready: bool = True) -> Champion:
    return Champion(queue=queue, models=models, ready=lambda _: ready)


def version_of(release: Release | None) -> int | None:
    return release and release.version


def test_the_newest_release_becomes_champion_and_stays(queue: WorkerQueue, tmp_path: Path) -> None:
    publish(tmp_path, 1)
    publish(tmp_path, 2)
    current = champion(queue, tmp_path)
    assert version_of(current.serving()) == 2
    publish(tmp_path, 3)
    assert version_of(current.serving()) == 2
    assert queue.alias("champion") == 2


def test_a_new_champion_is_taken_up_at_once(queue: WorkerQueue, tmp_path: Path) -> None:
    publish(tmp_path, 1)
    publish(tmp_path, 2)
    queue.promote("champion", 1)
    current = champion(queue, tmp_path)
    assert version_of(current.serving()) == 1
    queue.promote("champion", 2)
    assert version_of(current.serving()) == 2


def test_nothing_serves_until_something_is_published(queue: WorkerQueue, tmp_path: Path) -> None:
    current = champion(queue, tmp_path)
    assert current.serving() is None
    publish(tmp_path, 1)
    assert version_of(current.serving()) == 1


def test_a_release_that_the_model_server_does_not_know_does_not_serve(queue: WorkerQueue, tmp_path: Path) -> None:
    publish(tmp_path, 1)
    assert champion(queue, tmp_path, ready=False).serving() is None


@pytest.mark.parametrize("harm", ["tampered", "incomplete", "missing"])
def test_a_release_that_is_not_what_was_published_does_not_serve(queue: WorkerQueue, tmp_path: Path, harm: str) -> None:
    model = publish(tmp_path, 1) / "model.pt"
    if harm == "tampered":
        model.write_bytes(b"other weights")
    elif harm == "incomplete":
        model.unlink()
    else:
        queue.promote("champion", 9)
    assert champion(queue, tmp_path).serving() is None


def test_with_trusted_keys_only_what_they_signed_serves(queue: WorkerQueue, tmp_path: Path) -> None:
    folder, signer = publish(tmp_path, 1), Signer.generate()
    guarded = Champion(queue=queue, models=tmp_path, ready=lambda _: True, trusted=signer.trusted)
    assert guarded.serving() is None
    Signer.generate().sign(folder)
    assert guarded.serving() is None
    signer.sign(folder)
    assert version_of(guarded.serving()) == 1
