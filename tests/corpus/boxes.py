"""Surgery on MP4 files (ISO 14496-12): finding boxes, and putting others in their place."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

FULL_BOX = 4
"""Bytes of version and flags, with which the payload of many boxes begins."""


class Box(NamedTuple):
    """Where a box lies in the file: from `start` on its size and kind, from `payload` to `end` what it holds."""

    kind: bytes
    start: int
    payload: int
    end: int


def box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


def boxes(content: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """The boxes that lie side by side between two places."""
    end = len(content) if end is None else end
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", content, start)
        yield Box(kind, start, start + 8, start + size)
        start += max(size, 8)


def road(content: bytes, path: str) -> list[Box]:
    """The boxes on the way to `moov/trak/...`, outermost first; the first of its kind at each step."""
    found: list[Box] = []
    start, end = 0, len(content)
    for kind in path.split("/"):
        found.append(next(each for each in boxes(content, start, end) if each.kind == kind.encode()))
        start, end = found[-1].payload, found[-1].end
    return found


def find(content: bytes, path: str) -> Box:
    return road(content, path)[-1]


def patched(content: bytes, at: int, new: bytes) -> bytes:
    """The same length, with `new` written over what was there."""
    return content[:at] + new + content[at + len(new) :]


def replaced(content: bytes, path: str, new: bytes) -> bytes:
    """`new` in the place of the box at the end of `path`, whatever its length.

    The boxes around it grow with it. Samples keep their offsets, so what is replaced must lie behind them.
    """
    *around, old = road(content, path)
    grown = len(new) - (old.end - old.start)
    for each in around:
        content = patched(content, each.start, struct.pack(">I", each.end - each.start + grown))
    return content[: old.start] + new + content[old.end :]


def sample_entry(content: bytes) -> int:
    """Where the description of the first stream's samples starts: its size, its kind, 24 bytes, width and height."""
    return find(content, "moov/trak/mdia/minf/stbl/stsd").payload + FULL_BOX + 4


def with_matrix(content: bytes, matrix: tuple[int, int, int, int, int, int]) -> bytes:
    """The first track shown as (x, y) -> (a x + c y + tx, b x + d y + ty) asks; `matrix` is a, b, c, d, tx, ty in whole pixels."""
    a, b, c, d, tx, ty = (value << 16 for value in matrix)
    at = find(content, "moov/trak/tkhd").payload + 40
    return patched(content, at, struct.pack(">9i", a, b, 0, c, d, 0, tx, ty, 1 << 30))
