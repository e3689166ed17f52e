"""Results to page through."""

from itertools import pairwise

from shared.expressions import LABELS
from shared.results import Coverage, DecidingFrame, Explanation, Media, ModelInfo, Result, Track, Verdict, Window

WINDOW_MS = 500


def scores(number: int) -> dict[str, float]:
    """Some distribution whose floats are as long as they get."""
    raw = [1 + (number * 7 + place * 13) % 31 for place in range(len(LABELS))]
    return {name: value / sum(raw) for name, value in zip(LABELS, raw, strict=True)}


def verdict(number: int) -> dict[str, object]:
    of = scores(number)
    return {"scores": of, "label": max(of, key=of.__getitem__)}


def track(number: int, *, windows: int) -> Track:
    regions = {"face": 0.4, "eyes": 0.2, "mouth": 0.4}
    frames = tuple(DecidingFrame(pts_ms=n, weight=0.1, box=(0.1, 0.1, 0.123456789, 0.9), regions=regions) for n in range(8))
    times = pairwise(range(0, (windows + 1) * WINDOW_MS, WINDOW_MS))
    return Track(
        track_id=f"t{number}",
        start_ms=0,
        end_ms=windows * WINDOW_MS,
        frames=max(1, windows * 4),
        verdict=Verdict.model_validate(verdict(number)),
        explanation=Explanation(regions=regions, frames=frames),
        timeline=tuple(Window.model_validate({"start_ms": a, "end_ms": b, "frames": 4, **verdict(a)}) for a, b in times),
    )


def result(job_id: str, *windows_of_tracks: int) -> Result:
    return Result(
        id=job_id,
        model=ModelInfo(release=1, preprocess="p1"),
        media=Media(duration_ms=9, width=640, height=360, frames_decoded=9, codec="h264", container="mp4", rotation_degrees=0),
        coverage=Coverage(frames_sampled=9, frames_with_face=9, frames_used=9, faces_found=9, faces_used=9, dropped={}),
        tracks=tuple(track(number, windows=windows) for number, windows in enumerate(windows_of_tracks, start=1)),
        warnings=("partial-decode",),
    )


def put_together(pages: list[Result]) -> dict[str, list[Window]]:
    """The timelines of all pages, by track."""
    whole: dict[str, list[Window]] = {}
    for page in pages:
        for part in page.tracks:
            whole.setdefault(part.track_id, []).extend(part.timeline)
    return whole
