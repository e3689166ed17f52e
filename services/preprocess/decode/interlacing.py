"""Interlaced pictures made whole: each line that was taken a moment later is replaced by what it was a moment before."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Final

import av
from av.filter import Graph
from av.video.frame import VideoFrame

from services.preprocess.decode.containers import reason
from services.preprocess.decode.pictures import Timed
from shared.errors import DecodeMemoryExceeded, MediaCorrupt

THREADS: Final = 2
ONE_FOR_ONE: Final = "mode=send_frame:parity=auto:deint=interlaced"
"""One picture out for each one in; only those that are flagged as interlaced are changed."""


def deinterlaced(pictures: Iterator[Timed]) -> Iterator[Timed]:
    """The same pictures at the same times. Video without interlaced pictures passes through untouched.

    Raises MediaCorrupt for pictures that FFmpeg does not take, and DecodeMemoryExceeded.
    """
    weaver: Bwdif | None = None
    for pts_ms, picture in pictures:
        if weaver is not None and not weaver.takes(picture):
            yield from weaver.rest()
            weaver = None
        if weaver is None and picture.interlaced_frame:
            with filter_errors():
                weaver = Bwdif(picture)
        if weaver is None:
            yield pts_ms, picture
        else:
            yield from weaver.add(pts_ms, picture)
    if weaver is not None:
        yield from weaver.rest()


class Bwdif:
    """FFmpeg's filter of this name, which looks at a picture's neighbours, and so holds one back. For pictures of one size and format."""

    def __init__(self, first: VideoFrame) -> None:
        self._shape = shape(first)
        self._times: deque[int] = deque()
        self._index = 0
        self._graph = Graph()
        self._graph.threads = THREADS
        source = self._graph.add_buffer(width=first.width, height=first.height, format=first.format, time_base=Fraction(1, 1000))
        weave, sink = self._graph.add("bwdif", ONE_FOR_ONE), self._graph.add("buffersink")
        source.link_to(weave)
        weave.link_to(sink)
        self._graph.configure()

    def takes(self, picture: VideoFrame) -> bool:
        return shape(picture) == self._shape

    def add(self, pts_ms: int, picture: VideoFrame) -> Iterator[Timed]:
        self._times.append(pts_ms)
        picture.pts, picture.time_base = self._index, Fraction(1, 1000)
        self._index += 1
        with filter_errors():
            self._graph.vpush(picture)
        return self._ready()

    def rest(self) -> Iterator[Timed]:
        with filter_errors():
            self._graph.vpush(None)
        return self._ready()

    def _ready(self) -> Iterator[Timed]:
        while self._times:
            with filter_errors():
                try:
                    picture = self._graph.vpull()
                except (av.error.BlockingIOError, av.error.EOFError):
                    return
            yield self._times.popleft(), picture


@contextmanager
def filter_errors() -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise DecodeMemoryExceeded("untangling fields takes too much") from error
    except av.error.FFmpegError as error:
        raise MediaCorrupt(f"interlaced frames cannot be untangled: {reason(error)}") from error


def shape(picture: VideoFrame) -> tuple[int, int, str]:
    return picture.width, picture.height, picture.format.name
