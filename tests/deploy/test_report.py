"""The table that `make demo` prints."""

from io import StringIO

from rich.console import Console

from deploy.report import coverage, report, segments
from shared.expressions import LABELS
from shared.jobs import Timings
from shared.results import Coverage, DecidingFrame, Explanation, Media, ModelInfo, Result, Track, Verdict, Window

REGIONS = {"face": 0.41, "eyes": 0.2, "mouth": 0.39}


def scores(label: str, score: float) -> dict[str, float]:
    rest = (1 - score) / (len(LABELS) - 1)
    return {name: score if name == label else rest for name in LABELS}


def window(start_ms: int, end_ms: int, label: str, score: float, frames: int = 4) -> Window:
    return Window(start_ms=start_ms, end_ms=end_ms, label=label, scores=scores(label, score), frames=frames)


TIMELINE = (window(0, 500, "neutral", 0.71), window(500, 1000, "happy", 0.6, frames=1), window(1000, 1500, "happy", 0.9, frames=3))


def result(*tracks: Track, warnings: tuple[str, ...] = ()) -> Result:
    return Result(
        id="an_" + "0" * 32,
        model=ModelInfo(release=7, preprocess="p1"),
        media=Media(
            duration_ms=1500,
            width=640,
            height=360,
            frames_decoded=38,
            codec="h264",
            container="mov,mp4",
            rotation_degrees=0,
        ),
        coverage=Coverage(
            frames_sampled=12, frames_with_face=10, frames_used=8, faces_found=11, faces_used=8, dropped={"too_small": 3, "short_track": 0}
        ),
        tracks=tracks,
        warnings=warnings,
    )


def a_track() -> Track:
    frames = (DecidingFrame(pts_ms=1125, weight=0.19, box=(0.1, 0.1, 0.3, 0.4), regions=REGIONS),)
    return Track(
        track_id="t1",
        start_ms=0,
        end_ms=1480,
        frames=8,
        verdict=Verdict(label="happy", scores=scores("happy", 0.88)),
        explanation=Explanation(regions=REGIONS, frames=frames),
        timeline=TIMELINE,
    )


def printed(shown: Result, timings: Timings | None = None) -> str:
    output = StringIO()
    Console(file=output, width=140).print(report(shown, name="clip [1].mp4", timings=timings), markup=False, highlight=False)
    return output.getvalue()


def test_neighbouring_windows_with_one_label_are_one_segment() -> None:
    assert [str(segment) for segment in segments(TIMELINE)] == ["0.0-0.5 s neutral 71 %", "0.5-1.5 s happy 82 %"]


def test_a_gap_in_time_is_not_bridged() -> None:
    seen = [window(0, 500, "sad", 0.5), window(2000, 2500, "sad", 0.5)]
    assert [(segment.start_ms, segment.end_ms) for segment in segments(seen)] == [(0, 500), (2000, 2500)]


def test_no_windows_no_segments() -> None:
    assert segments([]) == []


def test_the_report_says_who_when_what_and_why() -> None:
    text = printed(result(a_track()), Timings(queue=40, decode=100, detect=1500, infer=400, total=2040))
    for expected in (
        "t1",
        "0.0-1.5 s",
        "happy 88 %",
        "0.0-0.5 s neutral 71 %",
        "mouth 39 %",
        "1.12 s (19 %)",
        "clip [1].mp4: 1.5 s, 640x360, h264, 38 frames",
        "12 frames sampled, 10 with a face, 8 used; 11 faces found, 8 used; dropped: 3 too small",
        "release 7, crops p1",
        "2.0 s (queue 0.0 s, decoding 0.1 s, finding faces 1.5 s, classifying 0.4 s)",
        "not a determination of a person's inner state",
    ):
        assert expected in text


def test_a_video_without_a_face_says_so_and_what_was_imperfect() -> None:
    text = printed(result(warnings=("partial-decode",)))
    assert text.startswith("No face was found.")
    assert "warnings  partial-decode" in text


def test_nothing_dropped_is_said() -> None:
    seen = Coverage(frames_sampled=1, frames_with_face=1, frames_used=1, faces_found=1, faces_used=1, dropped={"too_small": 0})
    assert coverage(seen).endswith("dropped: none")
