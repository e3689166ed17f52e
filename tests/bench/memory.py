"""Resident memory of the worker and of the process that decodes, over a long video.

It should be flat once everything has been touched. What may grow is what is kept of faces: one feature for each face and frame.
"""

import os
import statistics
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from deploy.stack import newest_release
from services.preprocess.judge.sightings import Sighting, Sightings, halved
from shared import releases
from shared.expressions import REGIONS
from tests.bench.clips import repeated
from tests.bench.figures import Figure
from tests.bench.road import Analysis, road
from tests.bench.watching import Reading, Watched

MINUTES: Final = 60.0
EVERY_S: Final = 1.0
SETTLED_AFTER_S: Final = 60.0
SETTLED_SHARE: Final = 0.25
"""What comes first does not count: a minute, or this share of the time where that is less."""
MOST_MIB_PER_HOUR: Final = 16.0
"""Of video, beyond what is kept of faces: what counts as flat."""
MIB: Final = 2**20
SIGHTINGS: Final = 4096


def run(home: Path, video: Path, *, minutes: float = MINUTES) -> list[Figure]:
    """One analysis of the clip, repeated until it is that long."""
    home.mkdir(parents=True, exist_ok=True)
    long = repeated(video, home / "long.mp4", seconds=60 * minutes)
    with longest(seconds=120 * minutes), road(home / "stack") as mien, Watched(mien.stack.programs, every_s=EVERY_S) as watched:
        analysis = mien.analyse(long)
    return list(figures(analysis, watched))


@contextmanager
def longest(*, seconds: float) -> Iterator[None]:
    """A worker that is started inside takes videos that long."""
    name = "MIEN_MAX_DURATION_S"
    before = os.environ.get(name)
    os.environ[name] = str(seconds)
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def figures(analysis: Analysis, watched: Watched) -> Iterator[Figure]:
    hours = analysis.result["media"]["duration_ms"] / 3_600_000
    kept_bytes = bytes_per_sighting(releases.read(newest_release() / "release.json").feature_size)
    yield figure("length of the video", 60 * hours, "min")
    yield figure("time that it took", analysis.seconds / 60, "min")
    yield figure("faces in its frames", analysis.faces, "")
    yield figure("kept of a face in a frame", kept_bytes, "bytes")
    kept = kept_bytes * analysis.faces / MIB / hours
    yield figure("  which makes, for each hour of video", kept, "MiB/h")
    began, ended = ends(watched.of("decoder"))
    for role, allowed in (("worker", kept), ("decoder", 0.0)):
        during = [reading for reading in watched.of(role) if began <= reading.at_s <= ended]
        settled_s = began + min(SETTLED_AFTER_S, SETTLED_SHARE * (ended - began))
        yield from flatness(role, during, settled_s=settled_s, hours_per_s=hours / (ended - began), allowed=allowed)
    yield figure("worker: highest, the last verdicts included", max(reading.rss_bytes for reading in watched.of("worker")) / MIB, "MiB")


def flatness(role: str, readings: Sequence[Reading], *, settled_s: float, hours_per_s: float, allowed: float) -> Iterator[Figure]:
    early, late = ([reading for reading in readings if (reading.at_s > settled_s) == is_late] for is_late in (False, True))
    yield figure(f"{role}: highest before it has settled", max(reading.rss_bytes for reading in early) / MIB, "MiB")
    yield figure(f"{role}: highest after that", max(reading.rss_bytes for reading in late) / MIB, "MiB")
    slope = growth(late) / MIB / hours_per_s
    yield figure(f"{role}: growth after that, for each hour of video", slope, "MiB/h")
    over = slope - allowed
    aim = f"at most {MOST_MIB_PER_HOUR:g} beyond what is kept of faces"
    yield figure(f"{role}:   beyond what is kept of faces", over, "MiB/h", aim=aim, reached=over <= MOST_MIB_PER_HOUR)


def growth(readings: Sequence[Reading]) -> float:
    """Bytes per second, by least squares."""
    return statistics.linear_regression([reading.at_s for reading in readings], [float(reading.rss_bytes) for reading in readings]).slope


def ends(decoder: Sequence[Reading]) -> tuple[float, float]:
    """From the decoder's first sight to its last: the time in which frames are worked on."""
    return decoder[0].at_s, decoder[-1].at_s


def bytes_per_sighting(feature_size: int) -> float:
    """What one more face in one more frame takes in this process, objects and all."""
    sightings = Sightings()
    tracemalloc.start()
    try:
        for first in range(0, SIGHTINGS, 16):
            features, regions = np.zeros((16, feature_size), np.float32), np.zeros((16, len(REGIONS)), np.float32)
            for row, (feature, weights) in enumerate(zip(features, regions, strict=True)):
                place = first + row
                box = (place / 7.0, place / 5.0, place / 3.0, place / 2.0)
                sightings.add(1, Sighting(frame=place, pts_ms=125 * place, box=box, feature=halved(feature), regions=weights))
        return tracemalloc.get_traced_memory()[0] / SIGHTINGS
    finally:
        tracemalloc.stop()


def figure(name: str, value: float, unit: str, *, aim: str = "", reached: bool | None = None) -> Figure:
    return Figure(bench="memory", name=name, value=value, unit=unit, aim=aim, reached=reached)
