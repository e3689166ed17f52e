"""The whole analysis of a video in this process: real decoder, real MTCNN, real Triton, random weights."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.clip import make_clip
from services.preprocess.analyze import analyze
from services.preprocess.classifier import Classifier
from services.preprocess.faces import FaceDetector
from shared.errors import MediaDurationExceeded, MediaUnrecognised
from shared.jobs import Options, Progress, Stage, Timings
from shared.results import Result
from tests.triton_server import Triton

JOB_ID = "an_" + "0" * 32


class Analysis:
    """Analyses with parts that are made once."""

    def __init__(self, triton: Triton, classifier: Classifier) -> None:
        self._release = triton.release()
        self._classifier = classifier
        self._detector = FaceDetector()
        self.reports: list[Progress] = []

    def __call__(
        self,
        video: Path,
        *,
        sample_fps: float = 8,
        max_duration_ms: int = 1_800_000,
        report: Callable[[Progress], None] | None = None,
    ) -> tuple[Result, Timings]:
        return analyze(
            video,
            job_id=JOB_ID,
            options=Options(sample_fps=sample_fps),
            release=self._release,
            detector=self._detector,
            classifier=self._classifier,
            report=report or self.reports.append,
            max_duration_ms=max_duration_ms,
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


def test_one_face_is_one_track_with_its_timeline(analysis: Analysis, portrait: Path) -> None:
    result, timings = analysis(portrait)
    (track,) = result.tracks
    assert result.coverage.frames_sampled == track.frames == 40
    assert [window.start_ms for window in track.timeline] == list(range(0, 5000, 500))
    assert sum(window.frames for window in track.timeline) == track.frames
    assert track.timeline[-1].end_ms == result.media.duration_ms == 5000
    assert min(timings.decode, timings.detect, timings.infer) > 0
    assert timings.decode + timings.detect + timings.infer <= timings.total


@pytest.mark.parametrize("sample_fps", [0.5, 0.9, 1.0])
def test_samples_that_are_far_apart_are_judged_all_the_same(analysis: Analysis, portrait: Path, sample_fps: float) -> None:
    result, _ = analysis(portrait, sample_fps=sample_fps)
    (track,) = result.tracks
    assert track.frames == result.coverage.frames_sampled >= 3
    assert result.coverage.dropped == {}


def test_progress_never_runs_back_and_never_says_that_all_is_done(analysis: Analysis, portrait: Path) -> None:
    analysis(portrait)
    assert [progress.frames_done for progress in analysis.reports] == [16, 32, 40, 40]
    assert [progress.stage for progress in analysis.reports] == [Stage.ANALYSING] * 3 + [Stage.CLASSIFYING]
    percents = [progress.percent for progress in analysis.reports]
    assert percents == sorted(percents)
    assert percents[-1] == 99


def test_what_report_raises_stops_the_analysis(analysis: Analysis, portrait: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(progress: Progress) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        analysis(portrait, report=stop)


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
