"""How many seconds of video one second of waiting is worth, at 8 samples a second: above 1 it keeps up with what is played."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench.clips import SIZES, crowd, portrait
from tests.bench.figures import Figure
from tests.bench.road import road

SECONDS: Final = 30.0
CLIPS: Final = {"one face": portrait, "three faces": crowd}


def run(home: Path, _video: Path) -> list[Figure]:
    """Clips made here, from upload to result through the whole stack."""
    home.mkdir(parents=True, exist_ok=True)
    clips = {
        f"{size}, {name}": make(home / f"{size}-{number}.mp4", size=pixels, seconds=SECONDS)
        for size, pixels in SIZES.items()
        for number, (name, make) in enumerate(CLIPS.items())
    }
    with road(home / "stack") as mien:
        mien.analyse(next(iter(clips.values())))  # warm
        return list(figures({name: mien.analyse(clip).real_time for name, clip in clips.items()}))


def figures(factors: dict[str, float]) -> Iterator[Figure]:
    for name, factor in factors.items():
        yield Figure(bench="realtime", name=name, value=factor, unit="x real time", aim="more than 1", reached=factor > 1)
