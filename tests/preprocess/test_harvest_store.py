"""A store is there whole, or not at all."""

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from services.preprocess.harvest.material import Clip, Tally
from services.preprocess.harvest.store import FrameFile, locked, write_store
from shared.crops import FRAMES, SAMPLES, STORE, Sample, Store, read_samples
from shared.errors import DataUnusable, InsufficientStorage, StorageError, StoreExists
from shared.jobs import Enhance
from shared.releases import file_sha256
from tests.samples import write_samples

SIZE = 8

ENDLESS = """
import sys, time
from pathlib import Path
import numpy as np
from services.preprocess.harvest.material import Clip, Tally
from services.preprocess.harvest.store import write_store
from shared.jobs import Enhance

def clips():
    while True:
        yield Clip(frames=np.ones((64, 9, 64, 64), np.uint8), label=None, subject="s", source="s", aligned=True)
        print("written", flush=True)
        time.sleep(0.01)

write_store(
    Path(sys.argv[1]), clips(), name="n", licence="l", size=64, consent=True, enhance=Enhance.NEVER, tally=Tally(), most_unreadable=0.05
)
"""


def clip(number: int, *, count: int = 1) -> Clip:
    frames = np.full((count, 9, SIZE, SIZE), number, np.uint8)
    return Clip(frames=frames, label="happy", subject=f"s{number}", source=f"file#{number}", aligned=True)


def write(out: Path, clips) -> Store:
    return write_store(
        out, clips, name="n", licence="l", size=SIZE, consent=True, enhance=Enhance.NEVER, tally=Tally(), most_unreadable=0.05
    )


def test_the_frames_are_the_file_that_numpy_would_write(tmp_path: Path) -> None:
    for frames in (1, 9, 10, 12_345):
        with FrameFile(tmp_path / "ours.npy", size=SIZE) as file:
            for start in range(0, frames, 1000):
                file.append(np.full((min(1000, frames - start), 9, SIZE, SIZE), start // 1000, np.uint8))
        np.save(tmp_path / "theirs.npy", np.load(tmp_path / "ours.npy"))
        assert file_sha256(tmp_path / "ours.npy") == file_sha256(tmp_path / "theirs.npy")
        assert np.load(tmp_path / "ours.npy").shape == (frames, 9, SIZE, SIZE)


def test_clips_lie_one_after_the_other(tmp_path: Path) -> None:
    store = write(tmp_path / "deep" / "crops", (clip(number, count=number) for number in (3, 1, 2)))
    samples = read_samples(tmp_path / "deep" / "crops" / SAMPLES)
    assert [(sample.first, sample.count) for sample in samples] == [(0, 3), (3, 1), (4, 2)]
    assert np.load(tmp_path / "deep" / "crops" / FRAMES)[:, 0, 0, 0].tolist() == [3, 3, 3, 1, 2, 2]
    assert (store.frames, store.samples) == (6, 3)
    assert store == Store.model_validate_json((tmp_path / "deep" / "crops" / STORE).read_bytes())
    for name, digest in store.sha256.items():
        assert file_sha256(tmp_path / "deep" / "crops" / name) == digest


def test_lines_of_before_are_read_and_lines_of_now_are_the_same_from_both_writers(tmp_path: Path) -> None:
    line = '{"first":7,"count":1,"label":"sad","subject":"a\u2028b","source":"s","aligned":false,"consent":true}\n'
    (tmp_path / SAMPLES).write_text(line, encoding="utf-8")
    assert read_samples(tmp_path / SAMPLES) == [Sample(first=7, label="sad", subject="a\u2028b", source="s", aligned=False)]
    write(tmp_path / "crops", [clip(1)])
    write_samples(tmp_path / "theirs", read_samples(tmp_path / "crops" / SAMPLES))
    assert (tmp_path / "theirs").read_bytes() == (tmp_path / "crops" / SAMPLES).read_bytes()


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch], ids=["an empty folder", "a file"])
def test_a_store_is_never_written_over(make, tmp_path: Path) -> None:
    make(tmp_path / "crops")

    def nothing_is_cut():
        raise AssertionError
        yield

    with pytest.raises(StoreExists):
        write(tmp_path / "crops", nothing_is_cut())


def test_of_two_harvests_the_faster_one_stays(tmp_path: Path) -> None:
    def overtaken():
        yield clip(1)
        write(tmp_path / "crops", [clip(2)])

    with pytest.raises(StoreExists):
        write(tmp_path / "crops", overtaken())
    assert read_samples(tmp_path / "crops" / SAMPLES)[0].subject == "s2"
    assert [path.name for path in tmp_path.iterdir()] == ["crops"]


def test_nothing_is_left_of_a_harvest_that_fails(tmp_path: Path) -> None:
    def failing():
        yield clip(1)
        raise DataUnusable("for a test")

    with pytest.raises(DataUnusable, match="for a test"):
        write(tmp_path / "crops", failing())
    assert list(tmp_path.iterdir()) == []


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    wrong = Clip(frames=np.zeros((1, 9, 16, 16), np.uint8), label=None, subject="s", source="s", aligned=True)
    with pytest.raises(ValueError, match="frames of this file"):
        write(tmp_path / "crops", [wrong])
    with pytest.raises(ValueError, match="a clip is uint8"):
        Clip(frames=np.zeros((0, 9, 8, 8), np.uint8), label=None, subject="s", source="s", aligned=True)


@pytest.fixture
def little_room():
    """Files of this process may not grow beyond 64 KiB; a write beyond fails as on a full disk, with another number."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_file_that_cannot_grow_is_a_storage_error(tmp_path: Path, little_room) -> None:
    with pytest.raises(StorageError, match="too large"):
        write(tmp_path / "crops", (clip(number % 7) for number in range(1000)))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_insufficient_storage(tmp_path: Path) -> None:
    def filling():
        yield clip(1)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(InsufficientStorage):
        write(tmp_path / "crops", filling())
    assert list(tmp_path.iterdir()) == []


def test_a_killed_harvest_leaves_no_store_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    out = tmp_path / "crops"
    with subprocess.Popen([sys.executable, "-c", ENDLESS, str(out)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(5):
            assert process.stdout.readline() == b"written\n"
        (aside,) = tmp_path.iterdir()
        with pytest.raises(BlockingIOError), locked(aside):
            pass
        process.kill()
    assert not out.exists()
    assert (aside / FRAMES).stat().st_size > 0
    assert not (aside / STORE).exists()
    write(out, [clip(1)])
    assert [path.name for path in tmp_path.iterdir()] == ["crops"]


def test_a_harvest_that_is_still_at_work_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path / "crops")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        write(tmp_path / "crops", [clip(1)])
        names = {path.name for path in tmp_path.iterdir()}
        process.kill()
    assert "crops" in names
    assert len(names) == 2


def test_memory_does_not_grow_with_the_data_set(tmp_path: Path) -> None:
    """A megabyte a clip, 144 in all."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    many = np.zeros((512, 9, 16, 16), np.uint8)
    clips = (Clip(frames=many, label=None, subject="s", source="s", aligned=True) for _ in range(128))
    write_store(
        tmp_path / "crops", clips, name="n", licence="l", size=16, consent=True, enhance=Enhance.NEVER, tally=Tally(), most_unreadable=0.05
    )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "KiB"
