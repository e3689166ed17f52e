"""The whole analysis of a video in this process: real decoder, real MTCNN, real Triton, random weights."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from deploy.clip import make_clip
from services.preprocess.analyze import analyze
from services.preprocess.decode.limits import Limits
from services.preprocess.faces.search import FaceDetector
from services.preprocess.judge.classifier import Classifier
from services.preprocess.light.lowlight import Lowlight
from services.preprocess.listener import Listener
from services.preprocess.stopwatch import StageTime
from shared.errors import MediaDurationExceeded, MediaUnrecognised
from shared.jobs import Options, Progress, Stage, Timings
from shared.results import Result, TrackWindow, Window
from tests.preprocess.conftest import Clips
from tests.triton_server import Triton

JOB_ID = "an_" + "0" * 32


class Analysis:
    """Analyses with parts that are made once."""

    def __init__(self, triton: Triton, classifier: Classifier) -> None:
        self._release = triton.release()
        self._classifier = classifier
        self._detector, self._lowlight = FaceDetector(), Lowlight()
        self.reports: list[Progress] = []
        self.windows: list[Sequence[TrackWindow]] = []
        self.stages: list[StageTime] = []

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
            classifier=self._classifier,
            listener=Listener(progress=report or self.reports.append, windows=self.windows.append, stages=self.stages.extend),
            limits=Limits(max_duration_ms=max_duration_ms),
        )


@pytest.fixture
def analysis(triton: Triton, one_torch_thread: None) -> Iterator[Analysis]:
    with Classifier(url=triton.grpc) as classifier:
        yield Analysis(triton, classifier)


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
    def stop(_: Progress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
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
    assert timings.decode + timings.enhance + timings.detect + timings.follow <= timings.total


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
    assert [progress.stage for progress in analysis.reports] == [Stage.ANALYSING] * 3 + [Stage.CLASSIFYING]
    percents = [progress.percent for progress in analysis.reports]
    assert percents == sorted(percents)
    assert percents[-1] <= 99


def test_what_report_raises_stops_the_analysis(analysis: Analysis, portrait: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(progress: Progress) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        analysis(portrait, report=stop)


def test_windows_are_told_while_the_video_is_read_and_come_to_the_timelines(analysis: Analysis, portrait: Path) -> None:
    result, _ = analysis(portrait)
    (track,) = result.tracks
    told = [window for windows in analysis.windows for window in windows]
    assert tuple(Window(**window.model_dump(exclude={"track_id"})) for window in told) == track.timeline
    assert {window.track_id for window in told} == {track.track_id}
    assert analysis.windows[0] or analysis.windows[1], "the first seconds are judged while later ones are decoded"


def test_a_part_has_the_frames_that_the_whole_has_there(analysis: Analysis, portrait: Path) -> None:
    result, _ = analysis(portrait, start_ms=1000, end_ms=3000)
    (track,) = result.tracks
    assert (result.coverage.frames_sampled, track.start_ms, track.end_ms) == (16, 1000, 2900)
    assert [window.start_ms for window in track.timeline] == [1000, 1500, 2000, 2500]


def test_at_most_so_many_faces_are_judged_and_the_rest_counted(analysis: Analysis, clips: Clips) -> None:
    face = np.asarray(data.astronaut())[0:200, 130:330]
    crowd = clips.write("crowd.mp4", frames=8, fps=8, picture=lambda _: np.hstack([face, face, np.zeros((200, 200, 3), np.uint8)]))
    result, _ = analysis(crowd, max_faces=1)
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
