"""What an adapter lists, what is cut from it, and the count of what is not."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from services.preprocess.arrays import Pixels
from services.preprocess.decode.frames import Frame
from shared.errors import MienError, PictureUnreadable
from shared.expressions import REGIONS
from shared.results import Label

logger = logging.getLogger(__name__)

TELL_EVERY_S: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture of one face and little else, decoded when its turn comes."""

    read: Callable[[], Pixels]
    """Gives uint8 RGB (H, W, 3), or raises PictureUnreadable."""
    label: Label | None
    subject: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Footage:
    """A video, or pictures in order, in which faces have yet to be found."""

    frames: Callable[[], Iterator[Frame]]
    """Gives frames of one size in order of time, or raises MediaError or PictureUnreadable; MediaMissing when it was deleted meanwhile."""
    label: Label | None
    subject: str
    source: str
    begins_neutral: bool = False
    """Whether the face of its very first frame is known to be neutral, and wanted as a sample of its own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """What training will read as one sample."""

    frames: Pixels
    """(T, 9, S, S), in order of time; T is 1 for a picture."""
    label: Label | None
    subject: str
    source: str
    aligned: bool
    """Whether landmarks were found."""

    def __post_init__(self) -> None:
        if self.frames.dtype != np.uint8 or self.frames.ndim != 4 or not len(self.frames) or self.frames.shape[1] != 3 * len(REGIONS):
            raise ValueError(f"a clip is uint8 (T, 9, S, S), not {self.frames.dtype} {self.frames.shape}")


@dataclass(kw_only=True)
class Tally:
    """What a harvest has come across so far."""

    material: int = 0
    """Pictures, videos and sequences that were opened."""
    told: float = field(default_factory=time.monotonic)
    """When the log was last told how far the harvest has come."""
    dropped: Counter[str] = field(default_factory=Counter)
    """What is not in the store. The reasons of `Coverage.dropped` count faces in single frames; all others count material, such as
    `unreadable` or `no_face`."""

    def opened(self) -> None:
        self.material += 1
        if time.monotonic() - self.told >= TELL_EVERY_S:
            self.told = time.monotonic()
            logger.info("%d pictures or clips so far", self.material)

    def unreadable(self, source: str, error: MienError) -> None:
        self.dropped["unreadable"] += 1
        logger.warning("left out %s: %s %s", source, error.title(), error.detail)

    def check(self, *, most_unreadable: float) -> None:
        """Raise PictureUnreadable when more than this share of the material is: a broken copy, not a broken picture."""
        unreadable = self.dropped["unreadable"]
        if unreadable > most_unreadable * self.material:
            raise PictureUnreadable(f"{unreadable} of {self.material} are unreadable; the limit is {most_unreadable:.0%}")
