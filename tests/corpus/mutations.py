"""Damaged clips: any number of them, each the same in every run."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tests.corpus.clips import write_clip

FRAMES = 10
HEADER = 512
MOST_FLIPS = 512
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

Mutate = Callable[[bytes, np.random.Generator], bytes]


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One damaged clip."""

    name: str
    """Its number, what it was, and what was done to it."""
    content: bytes


def mutant(number: int) -> Mutant:
    """The `number`-th: seeds and kinds of damage take turns."""
    random = np.random.default_rng([1, number])
    whole = seeds()
    seed = list(whole)[number % len(whole)]
    kind = list(MUTATIONS)[number // len(whole) % len(MUTATIONS)]
    return Mutant(name=f"{number:05d}-{kind}-{seed}", content=MUTATIONS[kind](whole[seed], random))


@cache
def seeds() -> dict[str, bytes]:
    """A good clip of each codec, by file name."""
    made: dict[str, tuple[str, dict[str, str]]] = {
        "h264.mp4": ("libx264", {"g": "5"}),
        "hevc.mp4": ("libx265", {"x265-params": "log-level=none:pools=none:frame-threads=1:keyint=5"}),
        "vp9.webm": ("libvpx-vp9", {"deadline": "realtime", "g": "5"}),
        "av1.mkv": ("libsvtav1", {"preset": "12", "svtav1-params": "lp=1"}),
        "mpeg4.avi": ("mpeg4", {"g": "5"}),
        "animation.gif": ("gif", {}),
    }
    with TemporaryDirectory(prefix="mien-seeds-") as folder:
        return {
            name: write_clip(
                Path(folder, name), codec=codec, frames=FRAMES, pixels="rgb8" if codec == "gif" else "yuv420p", options=options
            ).read_bytes()
            for name, (codec, options) in made.items()
        }


def truncated(content: bytes, random: np.random.Generator) -> bytes:
    return content[: random.integers(1, len(content))]


def flipped(content: bytes, random: np.random.Generator) -> bytes:
    """1 to 512 bits, each power of two as likely as the others."""
    damaged = bytearray(content)
    for place in random.integers(len(content) * 8, size=2 ** random.integers(0, MOST_FLIPS.bit_length())):
        damaged[place // 8] ^= 1 << place % 8
    return bytes(damaged)


def spliced(content: bytes, random: np.random.Generator) -> bytes:
    """The head of one clip on the body of another."""
    others = list(seeds().values())
    other = others[random.integers(len(others))]
    head = random.integers(8, HEADER)
    return other[:head] + content[head:]


def randomised(content: bytes, random: np.random.Generator) -> bytes:
    start, size = random.integers(len(content)), random.integers(1, max(2, len(content) // 4))
    end = min(start + size, len(content))
    return content[:start] + random.bytes(end - start) + content[end:]


def extreme(content: bytes, random: np.random.Generator) -> bytes:
    """Up to eight numbers of 16 or 32 bits, big and little-endian, as large or as small as they go."""
    damaged = bytearray(content)
    for _ in range(random.integers(1, 9)):
        value, at = EXTREMES[random.integers(len(EXTREMES))], random.integers(len(content) - 4)
        form = (">I", "<I", ">H", "<H")[random.integers(4)]
        struct.pack_into(form, damaged, at, value & (0xFFFF if form[1] == "H" else 0xFFFFFFFF))
    return bytes(damaged)


def shortened(content: bytes, random: np.random.Generator) -> bytes:
    start = random.integers(len(content))
    return content[:start] + content[start + random.integers(1, max(2, len(content) // 4)) :]


MUTATIONS: dict[str, Mutate] = {
    "truncate": truncated,
    "flip": flipped,
    "splice": spliced,
    "random": randomised,
    "extreme": extreme,
    "delete": shortened,
}
