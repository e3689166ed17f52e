"""What a file of the corpus is: how it is made, and what must become of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import MediaError
from tests.corpus.clips import FRAMES
from tests.corpus.pictures import HEIGHT, WIDTH

Maker = Callable[[Path], object]
"""Writes the file, at exactly this path."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The verdict, which follows from how the file was made and not from what any decoder says about it."""

    errors: tuple[type[MediaError], ...] = ()
    """The file is refused with one of these."""
    numbers: tuple[int, ...] = ()
    """What the sampled frames show, in order; one frame more or less at the end is fine. With `errors`, either is right."""
    frames: int = 0
    """How many are decoded."""
    size: tuple[int, int] = (WIDTH, HEIGHT)
    """Of the upright frame with square pixels."""
    rotation_degrees: int | None = 0
    """None where it is no rotation alone."""
    warnings: frozenset[str] = frozenset()
    unbound: bool = False
    """Nothing says which verdict is right: any of the catalogue, in time and within memory."""


def taken(
    frames: int = FRAMES,
    *warnings: str,
    first: int = 0,
    every: int = 1,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    rotation_degrees: int | None = 0,
) -> Expected:
    """Decoded: `frames` of them, of which each `every`-th is sampled; with `every=0` all of them show the same."""
    numbers = tuple(range(first, first + frames, every)) if every else (first,) * frames
    return Expected(numbers=numbers, frames=frames, size=size, rotation_degrees=rotation_degrees, warnings=frozenset(warnings))


def refused(*errors: type[MediaError]) -> Expected:
    return Expected(errors=errors)


ANY_VERDICT = Expected(unbound=True)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One file."""

    name: str
    """Of the file, too: a decoder may look at what follows the dot."""
    what: str
    """How it was made, in a few words for the table."""
    make: Maker
    expected: Expected
    limits: Mapping[str, int] = field(default_factory=dict)
    """Of the decoder, where the usual ones would ask for too large a file."""

    def write(self, folder: Path) -> Path:
        path = folder / self.name
        self.make(path)
        return path


def holding(content: bytes) -> Maker:
    return lambda path: path.write_bytes(content)
