"""A result as a person reads it: who was on screen, when, which expression, and why."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from shared.jobs import Timings
from shared.results import Coverage, DecidingFrame, Media, Result, Track, Window

Region = Literal["face", "eyes", "mouth"]
FRAMES_SHOWN: Final = 3


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Consecutive windows of one track that say the same."""

    start_ms: int
    end_ms: int
    label: str
    score: float
    """Mean score of the label, each window weighted by its frames."""

    def __str__(self) -> str:
        return f"{self.start_ms / 1000:.1f}-{self.end_ms / 1000:.1f} s {self.label} {percent(self.score)}"


def segments(timeline: Iterable[Window]) -> list[Segment]:
    """Merge neighbouring windows with the same label. A gap, in which the face was not seen, is never bridged."""
    runs: list[list[Window]] = []
    for window in timeline:
        last = runs[-1][-1] if runs else None
        if last is not None and last.label == window.label and window.start_ms <= last.end_ms:
            runs[-1].append(window)
        else:
            runs.append([window])
    return [_segment(run) for run in runs]


def _segment(run: list[Window]) -> Segment:
    frames = sum(window.frames for window in run)
    score = sum(window.scores[window.label] * window.frames for window in run) / frames
    return Segment(start_ms=run[0].start_ms, end_ms=run[-1].end_ms, label=run[0].label, score=score)


def report(result: Result, *, name: str, timings: Timings | None) -> RenderableType:
    """Everything worth saying about one analysis of the video `name`."""
    release, crops = result.model.release, result.model.preprocess
    lines = [
        f"video     {name}: {media(result.media)}",
        f"coverage  {coverage(result.coverage)}",
        f"model     release {release}, crops {crops}",
    ]
    if timings is not None:
        lines.append(f"time      {spent(timings)}")
    if result.warnings:
        lines.append(f"warnings  {', '.join(result.warnings)}")
    faces: RenderableType = tracks(result.tracks) if result.tracks else Text("No face was found.")
    return Group(faces, *map(Text, lines), Text(), Text(result.disclosure, style="dim"))


def tracks(found: Iterable[Track]) -> Table:
    table = Table("face", "on screen", "expression", "timeline", "decided by", "deciding frames")
    for track in found:
        table.add_row(
            track.track_id,
            f"{track.start_ms / 1000:.1f}-{track.end_ms / 1000:.1f} s\n{track.frames} frames",
            f"{track.verdict.label} {percent(track.verdict.scores[track.verdict.label])}",
            "\n".join(map(str, segments(track.timeline))),
            shares(track.explanation.regions),
            "\n".join(map(deciding, track.explanation.frames[:FRAMES_SHOWN])),
        )
    return table


def media(video: Media) -> str:
    return f"{video.duration_ms / 1000:.1f} s, {video.width}x{video.height}, {video.codec}, {video.frames_decoded} frames"


def coverage(seen: Coverage) -> str:
    dropped = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in seen.dropped.items() if count)
    return (
        f"{seen.frames_sampled} frames sampled, {seen.frames_with_face} with a face, {seen.frames_used} used; "
        f"{seen.faces_found} faces found, {seen.faces_used} used; dropped: {dropped or 'none'}"
    )


def spent(timings: Timings) -> str:
    parts = {"queue": timings.queue, "decoding": timings.decode, "finding faces": timings.detect, "classifying": timings.infer}
    return f"{timings.total / 1000:.1f} s ({', '.join(f'{name} {ms / 1000:.1f} s' for name, ms in parts.items())})"


def shares(regions: Mapping[Region, float]) -> str:
    return "\n".join(f"{region} {percent(share)}" for region, share in regions.items())


def deciding(frame: DecidingFrame) -> str:
    return f"{frame.pts_ms / 1000:.2f} s ({percent(frame.weight)})"


def percent(share: float) -> str:
    return f"{share * 100:.0f} %"
