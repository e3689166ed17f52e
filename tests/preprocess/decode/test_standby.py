"""A decoder that was started before there was a video: as good, as caged and as mortal as one that was not."""

import os
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from services.preprocess.decode.decoding import decoded
from services.preprocess.decode.process import ENVIRONMENT
from services.preprocess.decode.standby import Standby
from shared.errors import MediaCorrupt

ROOT = Path(__file__).parents[3]


@pytest.fixture
def standby():
    """Whatever a test does: no process, no descriptor stays."""
    me = psutil.Process()
    before = {child.pid for child in me.children()}, me.num_fds()
    standby = Standby()
    yield standby
    standby.close()
    assert ({child.pid for child in me.children()}, me.num_fds()) == before


@pytest.fixture
def decoders():
    """The processes that decode now, those included that have said all and wait to be let go."""
    before = {child.pid for child in psutil.Process().children()}
    return lambda: {child.pid for child in psutil.Process().children()} - before


def test_each_video_has_a_decoder_of_its_own_which_was_there_before(clips, decoders, standby):
    path = clips.write(frames=40)
    with decoded(path, sample_fps=60) as video:
        expected = list(video.frames())
    waiting = []
    for _ in range(3):
        with decoded(path, sample_fps=60, standby=standby) as video:
            assert decoders() == set(waiting) or not waiting, "nobody else was started"
            frames = list(video.frames())
            assert video.media().frames_decoded == 40
        assert [frame.pts_ms for frame in frames] == [frame.pts_ms for frame in expected]
        assert all(np.array_equal(frame.rgb_hwc, other.rgb_hwc) for frame, other in zip(frames, expected, strict=True))
        assert decoders().isdisjoint(waiting), "one video each"
        waiting = list(decoders())
        assert len(waiting) == 1


def test_the_part_that_is_asked_for_is_told_to_it(clips, standby):
    standby.prepare()
    with decoded(clips.write(frames=60, fps=25), sample_fps=5, start_ms=400, end_ms=1200, standby=standby) as video:
        assert [frame.pts_ms for frame in video.frames()] == [400, 600, 800, 1000]


def test_it_is_caged_and_holds_two_files_as_any_other(clips, decoders, standby, monkeypatch):
    monkeypatch.setenv("MIEN_REDIS_URL", "redis://:secret@host")
    standby.prepare()
    (pid,) = decoders()
    with decoded(clips.write(frames=200), sample_fps=60, standby=standby) as video:
        next(video.frames())
        child = psutil.Process(pid)
        assert child.environ().keys() <= {*ENVIRONMENT, "LC_CTYPE"}
        assert {link.readlink().name.partition(":")[0] for link in Path(f"/proc/{pid}/fd").iterdir()} == {"clip.mp4", "pipe", "null"}
        status = Path(f"/proc/{pid}/status").read_text()
        assert "Seccomp:\t2" in status
        assert "NoNewPrivs:\t1" in status


def test_one_that_died_while_it_waited_is_replaced(clips, decoders, standby):
    standby.prepare()
    (pid,) = decoders()
    psutil.Process(pid).kill()
    psutil.Process(pid).wait(20)
    with decoded(clips.write(frames=5), sample_fps=60, standby=standby) as video:
        assert len(list(video.frames())) == 5


def test_after_a_bad_file_the_next_one_is_as_good(clips, standby):
    good = clips.write(frames=5)
    for _ in range(2):
        with pytest.raises(MediaCorrupt), decoded(clips.bytes("upload", b"\0\0\0\x20ftypisom"), sample_fps=60, standby=standby):
            pass
        with decoded(good, sample_fps=60, standby=standby) as video:
            assert len(list(video.frames())) == 5


def test_where_none_can_be_started_one_is_started_when_it_is_needed(clips, caplog):
    standby = Standby(("/no/such/program",))
    standby.prepare()
    assert [record.message for record in caplog.records] == ["no decoder waits for the next video"]
    with decoded(clips.write(frames=5), sample_fps=60, standby=standby) as video:
        assert len(list(video.frames())) == 5


def test_where_descriptors_are_scarce_none_waits_and_no_video_suffers(clips, standby, caplog):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 8, most[1]))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        standby.prepare()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
        for descriptor in taken:
            os.close(descriptor)
    assert [record.message for record in caplog.records] == ["no decoder waits for the next video"]
    with decoded(clips.write(frames=5), sample_fps=60, standby=standby) as video:
        assert len(list(video.frames())) == 5


def test_it_dies_with_the_worker():
    script = """
import psutil, time
from services.preprocess.decode.standby import Standby
Standby().prepare()
print(psutil.Process().children()[0].pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE) as worker:
        child = psutil.Process(int(worker.stdout.readline()))
        worker.kill()
    _, alive = psutil.wait_procs([child], timeout=20)
    assert not alive
