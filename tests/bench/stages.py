"""Where the time goes: milliseconds per sampled frame, by stage, at three sizes; as figures and, where a path is given, as a picture.

Three lanes for each size. The front end's thread: what it was busy with, and what it waited for. The model's: Triton, beside it. And the
CPU time of the processes, which is what the others' waiting is made of when cores are scarce.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench.clips import SIZES, crowd
from tests.bench.figures import Figure
from tests.bench.picture import Lane, bars
from tests.bench.road import Analysis, Road, road
from tests.bench.watching import Watched

SECONDS: Final = 30.0
EVERY_S: Final = 0.1
FRONT_END: Final = {"decode": "wait for decoder", "enhance": "enhance", "detect": "detect", "follow": "follow and crop"}
ELSE: Final = "start, end, wait for model"
ROLES: Final = ("decoder", "worker", "triton")
TITLE: Final = "Milliseconds per sampled frame, 8 samples per second, two or three faces"


def run(home: Path, _video: Path, *, picture: Path | None = None) -> list[Figure]:
    """One analysis for each size; `picture` is where to write the SVG."""
    home.mkdir(parents=True, exist_ok=True)
    clips = {name: crowd(home / f"{name}.mp4", size=size, seconds=SECONDS) for name, size in SIZES.items()}
    with road(home / "stack") as mien:
        mien.analyse(clips["360p"])  # warm
        groups = {name: measured(mien, clip) for name, clip in clips.items()}
    if picture is not None:
        picture.write_text(bars(groups, title=TITLE, unit="ms"))
    return [line for name, lanes in groups.items() for lane in lanes for line in figures(name, lane)]


def measured(mien: Road, clip: Path) -> list[Lane]:
    with Watched(mien.stack.programs, every_s=EVERY_S) as watched:
        analysis = mien.analyse(clip)
    cpu = {f"CPU: {role}": 1000 * watched.cpu_s(role) / analysis.frames for role in ROLES}
    return [*threads(analysis), Lane(name="CPU time", parts=cpu)]


def threads(analysis: Analysis) -> Iterator[Lane]:
    timings, frames = analysis.job.timings, analysis.frames
    if timings is None:
        raise RuntimeError("a job that has succeeded has timings")
    front = {name: getattr(timings, stage) / frames for stage, name in FRONT_END.items()}
    yield Lane(name="front end", parts=front | {ELSE: max(0.0, timings.total / frames - sum(front.values()))})
    yield Lane(name="model, beside it", parts={"infer": timings.infer / frames})


def figures(size: str, lane: Lane) -> Iterator[Figure]:
    for name, value in lane.parts.items():
        yield Figure(bench="stages", name=f"{size}, {lane.name}: {name}", value=value, unit="ms per frame")
