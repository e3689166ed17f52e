"""The process that decodes, from the worker's side: what it gives, and that no way for it to go wrong is the worker's end."""

import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from services.preprocess.decode.decoding import decoded
from services.preprocess.decode.limits import Limits
from services.preprocess.decode.process import ENVIRONMENT
from services.preprocess.decode.video import open_video
from shared.errors import (
    DecodeCrashed,
    DecodeMemoryExceeded,
    DecoderUnavailable,
    DecodeTimeout,
    MediaCorrupt,
    MediaDimensionsExceeded,
    MediaEmpty,
    MediaRangeEmpty,
    StorageError,
)

ROOT = Path(__file__).parents[3]

PRELUDE = """
import json, os, signal, struct, sys, time
sys.path.insert(0, sys.argv[1])
"""
OPENED = (
    PRELUDE
    + """
import numpy as np
from services.preprocess.decode.frames import Frame
from services.preprocess.decode.wire import Ended, Failed, HEADER, Opened, Speaker
from shared.results import Media

speaker = Speaker(os.fdopen(os.dup(1), "wb"))
speaker.say(Opened(width=128, height=32, expected_frames=5, confined=True))

def show(*times):
    for pts_ms in times:
        speaker.show(Frame(pts_ms=pts_ms, rgb_hwc=np.zeros((32, 128, 3), np.uint8)))

def write(*parts):
    os.write(1, b"".join(parts))

show(0, 40, 80)
"""
)


def instead(script: str) -> tuple[str, ...]:
    """A command that is started in the decoder's place."""
    return (sys.executable, "-I", "-c", script, str(ROOT))


@pytest.fixture(autouse=True)
def nothing_left():
    """Whatever a test does: no process, no descriptor stays."""
    me = psutil.Process()
    before = {child.pid for child in me.children()}, me.num_fds()
    yield
    assert ({child.pid for child in me.children()}, me.num_fds()) == before


# --- what it gives -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample_fps", [0.5, 8, 60])
@pytest.mark.parametrize(("start_ms", "end_ms"), [(0, None), (300, 1500)])
def test_it_gives_what_decoding_here_gives(clips, sample_fps, start_ms, end_ms):
    path = clips.write(frames=60, fps=25)
    with open_video(path) as video:
        expected_frames = video.expected_frames(sample_fps, start_ms=start_ms, end_ms=end_ms)
        try:
            expected = list(video.frames(sample_fps, start_ms=start_ms, end_ms=end_ms))
        except MediaRangeEmpty:
            expected = []
        media, warnings = video.media(), video.warnings
    if not expected:
        with pytest.raises(MediaRangeEmpty), decoded(path, sample_fps=sample_fps, start_ms=start_ms, end_ms=end_ms):
            pass
        return
    with decoded(path, sample_fps=sample_fps, start_ms=start_ms, end_ms=end_ms) as there:
        assert (there.size, there.expected_frames) == ((128, 32), expected_frames)
        frames = list(there.frames())
        assert (there.media(), there.warnings) == (media, warnings)
    assert [frame.pts_ms for frame in frames] == [frame.pts_ms for frame in expected]
    assert all(np.array_equal(frame.rgb_hwc, other.rgb_hwc) for frame, other in zip(frames, expected, strict=True))


def test_a_frame_is_the_callers_to_change(clips):
    with decoded(clips.write(frames=3), sample_fps=60) as video:
        first, *_ = video.frames()
    first.rgb_hwc[:] = 7
    assert first.rgb_hwc.flags.owndata


def test_frames_can_be_read_once_and_then_told_about(clips):
    with decoded(clips.write(frames=3), sample_fps=60) as video:
        with pytest.raises(RuntimeError, match="not ended"):
            video.media()
        assert len(list(video.frames())) == 3
        assert video.media().frames_decoded == 3
        with pytest.raises(RuntimeError, match="once"):
            next(video.frames())


def test_a_damaged_tail_gives_what_is_there(clips):
    whole = clips.write(frames=100, index_first=True, g="10", bf="0").read_bytes()
    with decoded(clips.bytes("cut.mp4", whole[: len(whole) * 6 // 10]), sample_fps=60) as video:
        assert 10 < len(list(video.frames())) < 90
        assert video.warnings == ("partial-decode",)


@pytest.mark.parametrize(
    ("error", "content", "limits"),
    [(MediaEmpty, b"", {}), (MediaCorrupt, b"\0\0\0\x20ftypisom", {}), (MediaDimensionsExceeded, None, {"max_pixels": 4095})],
)
def test_errors_come_out_as_themselves(clips, error, content, limits):
    path = clips.write(frames=2) if content is None else clips.bytes("upload", content)
    with pytest.raises(error) as caught, decoded(path, sample_fps=8, limits=Limits(**limits)):
        pass
    assert str(path) not in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(StorageError), decoded(tmp_path / "missing", sample_fps=8):
        pass


def test_nothing_to_start(clips):
    with pytest.raises(DecoderUnavailable), decoded(clips.write(frames=1), sample_fps=8, decoder=("/no/such/program",)):
        pass


# --- it is held, and let go ----------------------------------------------------------------------------------------


def the_decoder() -> psutil.Process:
    (child,) = [each for each in psutil.Process().children() if "services.preprocess.decode.decoder" in " ".join(each.cmdline())]
    return child


def test_it_has_two_files_and_no_secret(clips, monkeypatch):
    monkeypatch.setenv("MIEN_REDIS_URL", "redis://:secret@host")
    with decoded(clips.write(frames=200), sample_fps=60) as video:
        next(video.frames())
        child = the_decoder()
        assert child.environ().keys() <= {*ENVIRONMENT, "LC_CTYPE"}
        assert child.cwd() == "/"
        open_files = {link.readlink().name.partition(":")[0] for link in Path(f"/proc/{child.pid}/fd").iterdir()}
        assert open_files == {"clip.mp4", "pipe", "null"}
        status = Path(f"/proc/{child.pid}/status").read_text()
        assert "Seccomp:\t2" in status
        assert "NoNewPrivs:\t1" in status


@pytest.mark.parametrize("after", [0, 1, 7, 40])
def test_leaving_early_kills_it(clips, after):
    with decoded(clips.write(frames=200), sample_fps=60) as video:
        child = the_decoder()
        for _, _ in zip(range(after), video.frames(), strict=False):
            pass
        began = time.monotonic()
    assert time.monotonic() - began < 1
    assert not child.is_running()


def test_an_error_kills_it(clips):
    with pytest.raises(KeyError), decoded(clips.write(frames=200), sample_fps=60) as video:  # noqa: PT012
        child = the_decoder()
        next(video.frames())
        raise KeyError
    assert not child.is_running()


def test_it_dies_with_the_worker(clips):
    """Killed as it waits for a worker that does not read on: it would wait for ever."""
    script = """
import sys
from pathlib import Path
from services.preprocess.decode.decoding import decoded
import psutil, time
with decoded(Path(sys.argv[1]), sample_fps=60) as video:
    print(psutil.Process().children()[0].pid, flush=True)
    time.sleep(60)
"""
    path = clips.write(frames=200, picture=lambda k: np.full((360, 640, 3), k, np.uint8), preset="ultrafast")
    with subprocess.Popen([sys.executable, "-c", script, path], cwd=ROOT, stdout=subprocess.PIPE) as worker:
        child = psutil.Process(int(worker.stdout.readline()))
        worker.kill()
    _, alive = psutil.wait_procs([child], timeout=5)
    assert not alive


def test_memory_is_flat_on_both_sides(clips):
    """Also while the worker is slower than the decoder."""
    path = clips.write(frames=1500, fps=50, picture=lambda k: np.full((180, 320, 3), k % 200, np.uint8), preset="ultrafast")
    here, there = [], []
    with decoded(path, sample_fps=50) as video:
        child = the_decoder()
        for index, _ in enumerate(video.frames()):
            if index % 250 == 249:
                time.sleep(0.2)
                here.append(psutil.Process().memory_info().rss)
                there.append(child.memory_info().rss)
    assert max(here[1:]) - here[1] < 8 << 20
    assert max(there[1:]) - there[1] < 8 << 20


AS_USUAL = "from services.preprocess.decode.decoder import main\nmain()"


def test_a_worker_that_is_told_to_go_decodes_on(clips):
    """A process group is told as a whole, be it while the decoder starts or later."""
    told_at_once = PRELUDE + "for told in (signal.SIGTERM, signal.SIGINT): os.kill(os.getpid(), told)\n" + AS_USUAL
    hears = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with decoded(clips.write(frames=200), sample_fps=60, decoder=instead(told_at_once)) as video:
        frames = video.frames()
        next(frames)
        for told in (signal.SIGTERM, signal.SIGINT):
            the_decoder().send_signal(told)
        assert len(list(frames)) == 199
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == hears


# --- what may become of it -----------------------------------------------------------------------------------------


def dies_by(number: int) -> str:
    return f"os.kill(os.getpid(), {number})"


OUT_OF_TIME = "from services.preprocess.decode import sandbox\nsandbox.limit(memory_bytes=1 << 30, cpu_s=1)\nwhile True: pass"
ENDED = (
    "speaker.say(Ended.model_construct(warnings=(), media=Media.model_construct(duration_ms=1, width={width}, height=32, frames_decoded=3,"
    " codec='{codec}', container='avi', rotation_degrees=0)))"
)
TERMINAL = "word = json.dumps({'code': 'media-corrupt', 'detail': '\\x1b[2J'}).encode(); write(HEADER.pack(b'X', len(word)), word)"

ENDS = {
    "segmentation fault": (dies_by(signal.SIGSEGV), DecodeCrashed, "SIGSEGV"),
    "killed": (dies_by(signal.SIGKILL), DecodeCrashed, "SIGKILL"),
    "aborted": (dies_by(signal.SIGABRT), DecodeCrashed, "SIGABRT"),
    "out of time": (OUT_OF_TIME, DecodeTimeout, "CPU"),
    "hang": ("time.sleep(60)", DecodeTimeout, "silent"),
    "ended": ("os._exit(0)", DecodeCrashed, "without a word"),
    "failed": ("raise SystemExit(3)", DecodeCrashed, "without a word"),
    "noise": ("os.write(1, os.urandom(1 << 16))", DecodeCrashed, "sense"),
    "text": ("print('hello', flush=True)", DecodeCrashed, "sense"),
}
AFTER_A_FRAME = {
    **{name: ENDS[name] for name in ("segmentation fault", "out of time", "hang", "ended")},
    "half a header": ("write(b'F')", DecodeCrashed, "without a word"),
    "half a frame": ("write(HEADER.pack(b'F', 8 + 128 * 32 * 3), bytes(100))", DecodeCrashed, "without a word"),
    "half a frame, and silence": ("write(HEADER.pack(b'F', 8 + 128 * 32 * 3), bytes(100)); time.sleep(60)", DecodeTimeout, "silent"),
    "a byte now and then": ("write(HEADER.pack(b'F', 8 + 128 * 32 * 3))\nwhile True: time.sleep(.1); write(b'x')", DecodeTimeout, "silent"),
    "too large a frame": ("write(HEADER.pack(b'F', 1 << 31))", DecodeCrashed, "sense"),
    "4 GiB of JSON": ("write(HEADER.pack(b'E', (1 << 32) - 1))", DecodeCrashed, "sense"),
    "no JSON": ("write(HEADER.pack(b'E', 4), b'null')", DecodeCrashed, "sense"),
    "a swollen sign of life": ("write(HEADER.pack(b'A', 1))", DecodeCrashed, "sense"),
    "time stands still": ("show(80)", DecodeCrashed, "out of order"),
    "time runs back": ("show(40)", DecodeCrashed, "out of order"),
    "time beyond the limit": ("show(1 << 40)", DecodeCrashed, "out of order"),
    "another size": (ENDED.format(width=64, codec="h264"), DecodeCrashed, "turn"),
    "markup for a codec": (ENDED.format(width=128, codec="<b>"), DecodeCrashed, "sense"),
    "opened twice": ("speaker.say(Opened(width=1, height=1, expected_frames=1, confined=True))", DecodeCrashed, "turn"),
    "an error of nobody's": ("speaker.say(Failed(code='queue-unavailable', detail=''))", DecodeCrashed, "cannot"),
    "words for a terminal": (TERMINAL, DecodeCrashed, "sense"),
}


@pytest.mark.parametrize(("script", "error", "words"), ENDS.values(), ids=ENDS.keys())
def test_it_goes_wrong_before_the_first_frame(clips, script, error, words):
    fails(clips, PRELUDE + script, error, words, frames=0)


@pytest.mark.parametrize(("script", "error", "words"), AFTER_A_FRAME.values(), ids=AFTER_A_FRAME.keys())
def test_it_goes_wrong_after_some_frames(clips, script, error, words):
    fails(clips, OPENED + script, error, words, frames=3)


SILENCE_S = 6
"""Longer than a process takes to start on a busy machine."""


def fails(clips, script, error, words, *, frames):
    seen = []
    began = time.monotonic()
    limits = Limits(silence_s=SILENCE_S if error is DecodeTimeout and words == "silent" else 30, cpu_s=1)
    with (
        pytest.raises(error, match=words) as caught,
        decoded(clips.bytes("upload", b"x"), sample_fps=60, limits=limits, decoder=instead(script)) as video,
    ):
        seen.extend(video.frames())
    assert len(seen) == frames
    assert str(clips.folder) not in caught.value.detail
    assert time.monotonic() - began < 25


def test_a_frame_before_its_size_is_known(clips):
    script = PRELUDE + "os.write(1, struct.pack('<cI', b'F', 8 + 3) + bytes(11))"
    fails(clips, script, DecodeCrashed, "sense", frames=0)


def test_frames_beyond_the_limit_are_not_allocated(clips):
    script = OPENED.replace("width=128, height=32", "width=1048576, height=1048576")
    fails(clips, script, DecodeCrashed, "larger", frames=0)


def test_a_sign_of_life_keeps_it_alive(clips):
    script = OPENED + "for _ in range(8): time.sleep(1); write(HEADER.pack(b'A', 0))\nshow(120)"
    with (
        pytest.raises(DecodeCrashed, match="without a word"),
        decoded(clips.bytes("upload", b"x"), sample_fps=60, limits=Limits(silence_s=SILENCE_S), decoder=instead(script)) as video,
    ):
        assert [frame.pts_ms for frame in video.frames()] == [0, 40, 80, 120]


def test_signs_of_life_alone_do_not_keep_it_for_ever(clips):
    script = OPENED + "while True: time.sleep(.2); write(HEADER.pack(b'A', 0))"
    with (
        pytest.raises(DecodeTimeout, match="silent"),
        decoded(clips.bytes("upload", b"x"), sample_fps=60, limits=Limits(wait_s=5), decoder=instead(script)) as video,
    ):
        list(video.frames())


ALIVE_FOR_EVER = "while True: time.sleep(.2); os.write(1, struct.pack('<cI', b'A', 0))"
TRICKLING = "for at_ms in range(120, 2000, 40): time.sleep(.2); show(at_ms)"


@pytest.mark.parametrize(
    "script",
    [PRELUDE + ALIVE_FOR_EVER, OPENED + ALIVE_FOR_EVER, OPENED + TRICKLING],
    ids=["before the first frame", "after it", "trickling"],
)
def test_whoever_waits_is_asked_and_may_stop(clips, script):
    asked = []

    def ask():
        asked.append(time.monotonic())
        if len(asked) == 3:
            raise InterruptedError

    began = time.monotonic()
    with (
        pytest.raises(InterruptedError),
        decoded(clips.bytes("upload", b"x"), sample_fps=60, decoder=instead(script), ask=ask) as video,
    ):
        list(video.frames())
    assert 2.9 < asked[-1] - began < 30


def test_whoever_is_asked_may_take_longer_than_the_decoder_may_be_silent(clips):
    """What it has said meanwhile is in the pipe."""
    script = OPENED + "time.sleep(1.5)\nshow(120)\nspeaker.say(Failed(code='media-corrupt', detail=''))"
    limits, times = Limits(silence_s=2), []
    with (
        pytest.raises(MediaCorrupt),
        decoded(clips.bytes("upload", b"x"), sample_fps=60, limits=limits, decoder=instead(script), ask=lambda: time.sleep(3)) as video,
    ):
        times.extend(frame.pts_ms for frame in video.frames())
    assert times == [0, 40, 80, 120]


def test_a_gigabyte_of_complaints_matters_to_nobody(clips):
    script = PRELUDE + "for _ in range(1024): os.write(2, bytes(1 << 20))\n" + AS_USUAL
    with decoded(clips.write(frames=5), sample_fps=60, decoder=instead(script)) as video:
        assert len(list(video.frames())) == 5


def test_memory_runs_out(clips):
    large = clips.write(frames=3, picture=lambda k: np.full((2160, 3840, 3), k, np.uint8), preset="ultrafast")
    with (
        pytest.raises(DecodeMemoryExceeded, match="too much"),
        decoded(large, sample_fps=60, limits=Limits(memory_bytes=400 << 20)) as video,
    ):
        list(video.frames())
    with decoded(large, sample_fps=60) as video:
        assert len(list(video.frames())) == 3


def test_cpu_time_runs_out(clips):
    path = clips.write(
        frames=100, picture=lambda k: np.random.default_rng(k).integers(0, 255, (720, 1280, 3), np.uint8), preset="ultrafast"
    )
    with pytest.raises(DecodeTimeout, match="1 s of CPU"), decoded(path, sample_fps=60, limits=Limits(cpu_s=1)) as video:
        list(video.frames())


@pytest.mark.parametrize(("name", "worked"), [("out of time", True), ("hang", False)])
def test_who_worked_for_too_long_is_told_from_who_fell_silent(clips, name, worked):
    script, error, _ = ENDS[name]
    limits = Limits(silence_s=1.5 if not worked else 30)
    with (
        pytest.raises(error) as caught,
        decoded(clips.bytes("upload", b"x"), sample_fps=60, limits=limits, decoder=instead(PRELUDE + script)),
    ):
        pass
    assert caught.value.worked is worked


@pytest.mark.parametrize(("max_duration_ms", "cpu_s"), [(1000, 300), (30 * 60_000, 1800), (24 * 3_600_000, 86_400)])
def test_a_longer_video_may_take_more_cpu_time(max_duration_ms, cpu_s):
    limits = Limits(max_duration_ms=max_duration_ms)
    assert limits.cpu_s == cpu_s
    assert Limits.model_validate_json(limits.model_dump_json()) == limits
    assert Limits(max_duration_ms=max_duration_ms, cpu_s=1).cpu_s == 1


def test_the_next_one_is_none_the_worse(clips):
    path = clips.write(frames=5)
    for script, error, _ in ENDS.values():
        if error is DecodeCrashed:
            with pytest.raises(error), decoded(path, sample_fps=60, decoder=instead(PRELUDE + script)):
                pass
            with decoded(path, sample_fps=60) as video:
                assert len(list(video.frames())) == 5


WITHOUT_SANDBOX = PRELUDE + "from services.preprocess.decode import decoder, sandbox\nsandbox.LIBRARY = 'libnone.so.2'\ndecoder.main()"


def test_without_a_sandbox_nothing_is_decoded(clips):
    with pytest.raises(DecoderUnavailable, match="sandbox"), decoded(clips.write(frames=2), sample_fps=8, decoder=instead(WITHOUT_SANDBOX)):
        pass


def test_who_decodes_without_a_sandbox_is_warned(clips, caplog):
    limits = Limits(unconfined=True)
    with (
        caplog.at_level(logging.WARNING),
        decoded(clips.write(frames=2), sample_fps=60, limits=limits, decoder=instead(WITHOUT_SANDBOX)) as video,
    ):
        assert len(list(video.frames())) == 2
    assert "without a sandbox" in caplog.text
