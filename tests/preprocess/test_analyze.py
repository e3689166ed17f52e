"""The whole analysis of a video in this process: real decoder, real MTCNN, real Triton, random weights."""

import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from skimage import data

from deploy.clip import make_clip
from services.preprocess import analyze as module
from services.preprocess.analyze import analyze
from services.preprocess.decode.decoding import DecodedVideo, decoded
from services.preprocess.decode.frames import Frame
from services.preprocess.decode.limits import Limits
from services.preprocess.faces.search import FaceDetector
from services.preprocess.frontend import FRAMES_PER_BATCH
from services.preprocess.judge.classifier import Classifier
from services.preprocess.light.lowlight import Lowlight
from services.preprocess.listener import Listener
from services.preprocess.stopwatch import StageTime
from shared.errors import MediaDurationExceeded, MediaUnrecognised
from shared.jobs import Options, Progress, Stage, Timings
from shared.releases import Release
from shared.results import Result, TrackWindow, Window
from tests.preprocess.conftest import Clips
from tests.preprocess.judge.mean_classifier import RELEASE, MeanClassifier
from tests.triton_server import Triton

JOB_ID = "an_" + "0" * 32


class Stopped(Exception):
    pass


class Analysis:
    """Analyses with parts that are made once."""

    def __init__(self, release: Release, classifier: Classifier | MeanClassifier) -> None:
        self._release = release
        self._classifier = classifier
        self._detector, self._lowlight = FaceDetector(), Lowlight()
        self.reports: list[Progress] = []
        self.windows: list[TrackWindow] = []
        self.stages: list[StageTime] = []
        self.hear_stages: Callable[[Sequence[StageTime]], None] = self.stages.extend

    def __call__(
        self,
        video: Path,
        *,
        max_duration_ms: int = 1_800_000,
        report: Callable[[Progress], None] | None = None,
        **options: object,
    ) -> tuple[Result, Timings]:
        return analyze(
            video,
            job_id=JOB_ID,
            options=Options.model_validate(options),
            release=self._release,
            detector=self._detector,
            lowlight=self._lowlight,
            classifier=self._classifier,  # type: ignore[arg-type]
            listener=Listener(progress=report or self.reports.append, windows=self.windows.extend, stages=self.hear_stages),
            limits=Limits(max_duration_ms=max_duration_ms),
        )


@pytest.fixture
def analysis(triton: Triton, one_torch_thread: None) -> Iterator[Analysis]:
    with Classifier(url=triton.grpc) as classifier:
        yield Analysis(triton.release(), classifier)


@pytest.fixture
def foreseen(one_torch_thread: None) -> Callable[..., Analysis]:
    """Analyses with a model that is as quick, as slow or as broken as `before` makes it."""
    return lambda before=lambda _: None: Analysis(RELEASE, MeanClassifier(before=before))


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "portrait.mp4"
    make_clip(path, seconds=5, fps=10)
    return path


def test_every_stage_tells_when_it_was_and_how_busy(analysis: Analysis, portrait: Path) -> None:
    _, timings = analysis(portrait)
    assert [each.stage for each in analysis.stages] == ["decode", "enhance", "detect", "follow", "infer"]
    assert {each.stage: each.busy_ms for each in analysis.stages} == timings.model_dump(exclude={"queue", "total"})
    first_ms = min(each.began_ms for each in analysis.stages)
    for each in analysis.stages:
        assert 0 <= each.busy_ms <= each.ended_ms - each.began_ms + 2
        assert first_ms <= each.began_ms <= each.ended_ms <= first_ms + timings.total + 5


def test_stages_are_told_of_an_analysis_that_fails_too(analysis: Analysis, portrait: Path) -> None:
    with pytest.raises(Stopped):
        analysis(portrait, report=stop)
    assert "detect" in {each.stage for each in analysis.stages}


def test_one_face_is_one_track_with_its_timeline(analysis: Analysis, portrait: Path) -> None:
    result, timings = analysis(portrait)
    (track,) = result.tracks
    assert result.coverage.frames_sampled == track.frames == 40
    assert [window.start_ms for window in track.timeline] == list(range(0, 5000, 500))
    assert sum(window.frames for window in track.timeline) == track.frames
    assert track.timeline[-1].end_ms == result.media.duration_ms == 5000
    assert min(timings.decode, timings.detect, timings.follow, timings.infer) > 0
    assert in_turn(timings) <= timings.total


def in_turn(timings: Timings) -> int:
    """The stages that never run beside each other."""
    return timings.decode + timings.enhance + timings.detect + timings.follow


def test_the_stages_that_take_turns_make_up_the_whole_time_where_the_model_is_quick(
    foreseen: Callable[..., Analysis], portrait: Path
) -> None:
    quick, began = foreseen(), time.monotonic()
    _, timings = quick(portrait)
    assert timings.total == pytest.approx(1000 * (time.monotonic() - began), rel=0.1, abs=200)
    assert 0 <= timings.total - in_turn(timings) <= 0.1 * timings.total + 50


def test_the_model_works_beside_the_other_stages(foreseen: Callable[..., Analysis], portrait: Path) -> None:
    _, timings = foreseen(lambda _: time.sleep(0.4))(portrait)
    assert timings.infer >= 3 * 400
    assert timings.total < in_turn(timings) + timings.infer, "one after the other they would take that long at least"


@pytest.mark.parametrize("sample_fps", [0.5, 0.9, 1.0])
def test_samples_that_are_far_apart_are_judged_all_the_same(analysis: Analysis, portrait: Path, sample_fps: float) -> None:
    result, _ = analysis(portrait, sample_fps=sample_fps)
    (track,) = result.tracks
    assert track.frames == result.coverage.frames_sampled >= 3
    assert result.coverage.dropped == {}


def test_progress_never_runs_back_and_never_says_that_all_is_done(analysis: Analysis, portrait: Path) -> None:
    analysis(portrait)
    done = [progress.frames_done for progress in analysis.reports]
    assert done == sorted(done), "frames that the model has answered for, and it may be two batches behind"
    assert set(done) <= {0, 16, 32, 40}
    stages = [progress.stage for progress in analysis.reports]
    assert stages == sorted(stages)
    assert stages.count(Stage.ANALYSING) >= 3, "after each batch, and while the model is waited for"
    assert stages.count(Stage.CLASSIFYING) >= 1
    percents = [progress.percent for progress in analysis.reports]
    assert percents == sorted(percents)
    assert percents[-1] <= 99


def stop(_: Progress) -> None:
    raise Stopped


@pytest.mark.parametrize("at", [Stage.ANALYSING, Stage.CLASSIFYING])
def test_what_report_raises_stops_the_analysis_and_all_that_it_began(foreseen: Callable[..., Analysis], portrait: Path, at: Stage) -> None:
    """While the model hangs, too."""
    before, asked = left_running(), []

    def report(progress: Progress) -> None:
        asked.append(time.monotonic())
        if progress.stage == at:
            raise Stopped

    analysis = foreseen(lambda stopping: stopping.wait(30) if at == Stage.CLASSIFYING else None)
    with pytest.raises(Stopped):
        analysis(portrait, report=report)
    assert time.monotonic() - asked[-1] < 3
    assert left_running() == before


ALIVE_ONLY = "import os, struct, time\nwhile True: time.sleep(.2); os.write(1, struct.pack('<cI', b'A', 0))"


def test_a_decoder_that_only_says_to_be_alive_keeps_nobody_from_stopping(
    foreseen: Callable[..., Analysis], portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that has far to go to where a part begins."""
    monkeypatch.setattr(module, "decoded", partial(decoded, decoder=(sys.executable, "-I", "-c", ALIVE_ONLY)))
    before, asked = left_running(), []

    def report(progress: Progress) -> None:
        asked.append(progress)
        if len(asked) == 2:
            raise Stopped

    began = time.monotonic()
    with pytest.raises(Stopped):
        foreseen()(portrait, report=report)
    assert time.monotonic() - began < 60, "a frame is waited for for an hour"
    assert asked == [Progress(stage=Stage.ANALYSING)] * 2
    assert left_running() == before


def test_a_header_that_promises_too_little_makes_no_progress_run_back(
    foreseen: Callable[..., Analysis], portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def promising_little(*arguments: object, **named: object) -> Iterator[DecodedVideo]:
        with decoded(*arguments, **named) as video:  # type: ignore[arg-type]
            video.expected_frames = 3
            yield video

    monkeypatch.setattr(module, "decoded", promising_little)
    analysis = foreseen(lambda _: time.sleep(0.4))
    analysis(portrait)
    percents = [progress.percent for progress in analysis.reports]
    assert percents == sorted(percents)
    assert max(progress.percent for progress in analysis.reports if progress.frames_done < 40) < 99
    assert percents[-1] == 99


def test_a_batch_of_frames_and_the_one_after_it_are_in_memory_and_no_more(
    foreseen: Callable[..., Analysis], portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []

    @contextmanager
    def watched(*arguments: object, **named: object) -> Iterator[DecodedVideo]:
        with decoded(*arguments, **named) as video:  # type: ignore[arg-type]
            monkeypatch.setattr(video, "frames", partial(counted, video.frames()))
            yield video

    def counted(frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            seen.append(weakref.ref(frame.rgb_hwc))
            alive.append(sum(pixels() is not None for pixels in seen))
            yield frame

    monkeypatch.setattr(module, "decoded", watched)
    result, _ = foreseen()(portrait)
    assert len(seen) == result.coverage.frames_sampled == 40
    assert max(alive) == FRAMES_PER_BATCH + 1


def left_running() -> tuple[set[str], set[int]]:
    """The threads of this process that judge, and its children that decode."""
    threads = {thread.name for thread in threading.enumerate() if thread.name.startswith("judging")}
    children = {child.pid for child in psutil.Process().children() if "services.preprocess.decode" in " ".join(child.cmdline())}
    return threads, children


def test_nobody_who_hears_the_stages_changes_how_an_analysis_ends(analysis: Analysis, portrait: Path) -> None:
    analysis.hear_stages = fail
    with pytest.raises(Stopped):
        analysis(portrait, report=stop)


def fail(_: Sequence[StageTime]) -> None:
    raise ZeroDivisionError


def test_windows_are_told_while_the_video_is_read_and_come_to_the_timelines(analysis: Analysis, portrait: Path) -> None:
    result, _ = analysis(portrait)
    (track,) = result.tracks
    assert tuple(Window(**window.model_dump(exclude={"track_id"})) for window in analysis.windows) == track.timeline
    assert {window.track_id for window in analysis.windows} == {track.track_id}


def test_windows_are_told_before_the_video_has_been_read(foreseen: Callable[..., Analysis], portrait: Path) -> None:
    """The model answers before the next batch is looked at: what it has judged by then is told by then."""
    quick, told = foreseen(), []
    quick(portrait, report=lambda progress: told.append((progress.stage, len(quick.windows))) or time.sleep(0.3))
    assert max(windows for stage, windows in told if stage == Stage.ANALYSING) >= 3


def test_a_part_has_the_frames_that_the_whole_has_there(analysis: Analysis, portrait: Path) -> None:
    result, _ = analysis(portrait, start_ms=1000, end_ms=3000)
    (track,) = result.tracks
    assert (result.coverage.frames_sampled, track.start_ms, track.end_ms) == (16, 1000, 2900)
    assert [window.start_ms for window in track.timeline] == [1000, 1500, 2000, 2500]


def test_the_windows_of_a_part_are_those_of_the_whole_video(foreseen: Callable[..., Analysis], portrait: Path) -> None:
    result, _ = foreseen()(portrait, start_ms=1200, end_ms=2300)
    (track,) = result.tracks
    assert track.start_ms >= 1200
    assert [(window.start_ms, window.end_ms) for window in track.timeline][:2] == [(1000, 1500), (1500, 2000)]


def test_at_most_so_many_faces_are_judged_and_the_rest_counted(foreseen: Callable[..., Analysis], clips: Clips) -> None:
    face = np.asarray(data.astronaut())[0:200, 130:330]
    smaller = np.pad(face[::5, ::5].repeat(4, 0).repeat(4, 1), ((20, 20), (20, 20), (0, 0)))
    crowd = clips.write("crowd.mp4", frames=8, fps=8, picture=lambda _: np.hstack([face, smaller, np.zeros((200, 200, 3), np.uint8)]))
    result, _ = foreseen()(crowd, max_faces=1)
    assert len(result.tracks) == 1
    assert result.coverage.dropped == {"too_many": 8}
    assert result.warnings == ("faces-truncated",)
    assert result.coverage.faces_found == result.coverage.faces_used + 8


def test_what_was_done_against_the_dark_is_told(analysis: Analysis, portrait: Path, clips: Clips) -> None:
    assert analysis(portrait)[0].enhancement.frames == 0
    face = np.asarray(data.astronaut())[0:256, 100:356]
    night = clips.write("night.mp4", frames=4, fps=8, picture=lambda _: (face * 0.12).astype(np.uint8))
    found, _ = analysis(night)
    assert found.enhancement.frames == found.coverage.frames_sampled == 4
    assert found.enhancement.luminance_before < found.enhancement.luminance_after  # type: ignore[operator]
    left, _ = analysis(night, enhance="never")
    assert (left.enhancement.frames, left.enhancement.method) == (0, "none")


def test_the_same_video_gives_the_same_result(analysis: Analysis, portrait: Path) -> None:
    first, _ = analysis(portrait)
    second, _ = analysis(portrait)
    assert first == second


def test_a_video_that_is_too_long_is_not_begun(analysis: Analysis, portrait: Path) -> None:
    with pytest.raises(MediaDurationExceeded, match="5000 ms; the limit is 4000 ms"):
        analysis(portrait, max_duration_ms=4000)
    assert analysis.reports == []


def test_what_is_no_video_is_said_to_be_none(analysis: Analysis, tmp_path: Path) -> None:
    (tmp_path / "v").write_text("Lorem ipsum")
    with pytest.raises(MediaUnrecognised):
        analysis(tmp_path / "v")
