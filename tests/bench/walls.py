"""Clips with many faces of known people in known places: pictures hung on a wall, past which the camera moves a little."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image
from skimage.data import coffee

from services.preprocess.decode.frames import Frame
from tests.bench.people import Labelled

SIZE: Final = (640, 360)
SAMPLES: Final = 4
STEP_MS: Final = 125
"""Between samples, as an analysis takes them when nobody says."""
DRIFT_PX: Final = (3, 2)
"""By which the wall moves to the left and up from sample to sample."""
ROWS_PX: Final = (72, 96, 136)
"""Sides of the pictures in each row. Their faces have 55 to 135 px, as found; the smallest that is looked for here has 40."""
GAP_PX: Final = 14


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a picture hangs on its wall, in pixels."""

    left: int
    top: int
    side: int

    def holds(self, x: float, y: float) -> bool:
        return self.left <= x < self.left + self.side and self.top <= y < self.top + self.side


def places() -> Iterator[Place]:
    top = GAP_PX
    for side in ROWS_PX:
        for left in range(GAP_PX, SIZE[0] - side, side + GAP_PX):
            yield Place(left=left, top=top, side=side)
        top += side + GAP_PX


PLACES: Final = tuple(places())


@dataclass(frozen=True, kw_only=True)
class Wall:
    """A clip as an analysis samples it. Nobody is in two places."""

    people: Sequence[Labelled]
    """One for each of the first PLACES."""
    frames: Sequence[Frame]

    def who(self, x: float, y: float, *, pts_ms: int) -> int | None:
        """Whose picture is there in the frame, by number; None for the wall itself."""
        moved = pts_ms / STEP_MS
        hung = PLACES[: len(self.people)]
        return next((number for number, place in enumerate(hung) if place.holds(x + DRIFT_PX[0] * moved, y + DRIFT_PX[1] * moved)), None)


def walls(people: Sequence[Labelled]) -> Iterator[Wall]:
    for start in range(0, len(people), len(PLACES)):
        some = people[start : start + len(PLACES)]
        yield Wall(people=some, frames=frames(some))


def frames(people: Sequence[Labelled]) -> list[Frame]:
    wall = Image.fromarray(coffee()).resize([side + SAMPLES * drift for side, drift in zip(SIZE, DRIFT_PX, strict=True)])
    for person, place in zip(people, PLACES, strict=False):
        wall.paste(Image.fromarray(person.rgb_hwc).resize((place.side, place.side), Image.Resampling.BILINEAR), (place.left, place.top))
    return [Frame(pts_ms=STEP_MS * number, rgb_hwc=seen(wall, number)) for number in range(SAMPLES)]


def seen(wall: Image.Image, number: int) -> np.ndarray:
    left, top = (number * drift for drift in DRIFT_PX)
    return np.asarray(wall.crop((left, top, left + SIZE[0], top + SIZE[1])))
