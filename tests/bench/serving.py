"""Frames per second from upload to result, beside what one writes first and beside the package `fer`, all on the same clips by turns."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from deploy.stack import newest_release
from services.preprocess.faces.search import smallest_face_px
from tests.bench import rivals
from tests.bench.clips import repeated
from tests.bench.detection import make_crowd
from tests.bench.figures import Figure
from tests.bench.rivals import Pace, Rival, RivalMissing
from tests.bench.road import Road, road

ROUNDS: Final = 2
SECONDS: Final = 12
"""To which a clip is repeated: that a job begins and ends counts as it does in a short video, not as in the shortest."""

EVERY_FRAME: Final = 60.0
DEFAULT: Final = 8.0
PACES: Final = {"every frame": EVERY_FRAME, "8 samples/s": DEFAULT}

MIEN: Final = "mien"
PLAIN: Final = "facenet-pytorch and eager model per face"
ALIKE: Final = f"{PLAIN}, of Mien's smallest face"
"""The same work: what is faster then is not so because it looks for less."""
FER: Final = "fer 25.10.3 with MTCNN"
AIMS: Final = {PLAIN: 5.0, FER: 2.0}


def run(home: Path, video: Path) -> list[Figure]:
    """The given clip, and one in which three faces walk about."""
    home.mkdir(parents=True, exist_ok=True)
    crowd = home / "crowd.once.mp4"
    make_crowd(crowd)
    clips = {name: repeated(clip, home / f"{name}.mp4", seconds=SECONDS) for name, clip in (("clip", video), ("crowd", crowd))}
    with ExitStack() as opened:
        mien = opened.enter_context(road(home / "stack"))
        ways: dict[str, Rival] = {
            MIEN: of_mien(mien),
            PLAIN: rivals.plain_way(newest_release()),
            ALIKE: rivals.plain_way(newest_release(), min_face_px=smallest_face_px),
        }
        missing = list(with_fer(ways, opened, clips["clip"]))
        return missing + [
            line
            for name, clip in clips.items()
            for pace, fps in PACES.items()
            for line in figures(f"{name}, {pace}", by_turns(ways, clip, fps=fps))
        ]


def of_mien(mien: Road) -> Rival:
    def analyse(video: Path, *, fps: float) -> Pace:
        return mien.analyse(video, sample_fps=fps).pace

    return analyse


def with_fer(ways: dict[str, Rival], opened: ExitStack, video: Path) -> Iterator[Figure]:
    """Put it among the ways, or else say that it cannot be had here."""
    try:
        ways[FER] = opened.enter_context(rivals.fer(video))
    except RivalMissing as error:
        yield Figure(bench="serving", name=f"no comparison with fer: {error}", value=float("nan"), unit="")


def by_turns(ways: Mapping[str, Rival], clip: Path, *, fps: float) -> dict[str, list[float]]:
    """Frames per second of each round; the first round, which warms, is left out."""
    rounds = [{name: way(clip, fps=fps).fps for name, way in ways.items()} for _ in range(1 + ROUNDS)][1:]
    return {name: [paces[name] for paces in rounds] for name in ways}


def figures(about: str, measured: Mapping[str, list[float]]) -> Iterator[Figure]:
    for name, paces in measured.items():
        yield Figure(bench="serving", name=f"{about}: {name}", value=statistics.median(paces), unit="frames/s")
    for rival in [name for name in measured if name != MIEN]:
        yield lead(f"{about}: over {rival}", measured[MIEN], measured[rival], aim=AIMS.get(rival))


def lead(name: str, ours: Sequence[float], theirs: Sequence[float], *, aim: float | None) -> Figure:
    ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
    if aim is None:
        return Figure(bench="serving", name=name, value=ratio, unit="x")
    return Figure(bench="serving", name=name, value=ratio, unit="x", aim=f"at least {aim:g}", reached=ratio >= aim)
