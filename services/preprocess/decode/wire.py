"""What the process that decodes and the worker say to each other.

The worker says what it wants once, as an argument. The answers come through a pipe: each is a kind (1 byte), the length of what follows
(4 bytes), and that: JSON, or for a frame its time (8 bytes) and its pixels. Little-endian.

    Opened -> (a frame | nothing to tell)* -> Ended
    Failed, at any time, ends it

The worker's end believes nothing: a length is checked before a byte is allocated for it, and what is read must make sense.
"""

import os
import re
import select
import struct
import threading
import time
from typing import Annotated, BinaryIO, Final

import numpy as np
from pydantic import Field, ValidationError, field_validator

from services.preprocess.asking import ASKS_EVERY_S, Ask, nobody
from services.preprocess.decode.frames import Frame
from services.preprocess.decode.limits import Limits
from shared.jobs import Contract, Milliseconds
from shared.results import Media

HEADER: Final = struct.Struct("<cI")
PTS_MS: Final = struct.Struct("<q")
LONGEST_JSON: Final = 1 << 12
SIGN_OF_LIFE_S: Final = 1.0

FORMAT: Final = re.compile(r"[a-z0-9_,]{1,60}")
Code = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,60}$")]
Side = Annotated[int, Field(gt=0, le=1 << 20)]


class Request(Contract):
    """What is to be decoded. The video itself is the process's standard input."""

    worker: int
    """Its process, with which this one ends."""
    sample_fps: Annotated[float, Field(gt=0)]
    start_ms: Milliseconds
    end_ms: int | None
    limits: Limits


class Opened(Contract):
    """The first frame is there."""

    width: Side
    height: Side
    expected_frames: Annotated[int, Field(ge=0)] | None
    confined: bool


class Ended(Contract):
    """That was all."""

    media: Media
    warnings: Annotated[tuple[Code, ...], Field(max_length=20)]

    @field_validator("media")
    @classmethod
    def _names_formats(cls, media: Media) -> Media:
        if not FORMAT.fullmatch(media.codec) or not FORMAT.fullmatch(media.container):
            raise ValueError("these are no names of formats")
        return media


class Failed(Contract):
    """There will be no more; `code` is that of a MienError."""

    code: Code
    detail: Annotated[str, Field(pattern=r"^[ -~]{0,400}$")]


ANSWERS: Final[dict[bytes, type[Opened] | type[Ended] | type[Failed]]] = {b"O": Opened, b"E": Ended, b"X": Failed}
FRAME: Final = b"F"
ALIVE: Final = b"A"


class Garbled(Exception):
    """What came is no answer."""


class Silent(Exception):
    """Nothing came in time."""


class Speaker:
    """The decoding process's end. May be shared by threads."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._spoke = time.monotonic()

    def say(self, answer: Opened | Ended | Failed) -> None:
        kind = next(kind for kind, answers in ANSWERS.items() if isinstance(answer, answers))
        self._in_turn(kind, answer.model_dump_json().encode())

    def show(self, frame: Frame) -> None:
        self._in_turn(FRAME, PTS_MS.pack(frame.pts_ms), frame.rgb_hwc.data.cast("B"))

    def live(self) -> None:
        """Say that decoding goes on, once a second; nothing while another thread speaks, since nobody takes it for dead then.

        Waits for no other thread, and for the worker only where the pipe is full.
        """
        if time.monotonic() - self._spoke > SIGN_OF_LIFE_S and self._lock.acquire(blocking=False):
            try:
                self._write(ALIVE)
            finally:
                self._lock.release()

    def _in_turn(self, kind: bytes, *parts: bytes | memoryview) -> None:
        with self._lock:
            self._write(kind, *parts)

    def _write(self, kind: bytes, *parts: bytes | memoryview) -> None:
        """By who holds the lock."""
        self._pipe.write(HEADER.pack(kind, sum(len(part) for part in parts)))
        for part in parts:
            self._pipe.write(part)
        self._pipe.flush()
        self._spoke = time.monotonic()


class Hearer:
    """The worker's end."""

    def __init__(self, pipe: int, *, silence_s: float, wait_s: float, ask: Ask = nobody) -> None:
        """
        pipe: a descriptor, which stays the caller's.
        silence_s: how long to wait for a whole answer, be it that there is nothing to tell.
        wait_s: how long to wait for one that says something.
        ask: called between the words of one that only says to be alive, too; what it raises comes out of `hear`.
        """
        self._pipe = pipe
        self._silence_s = silence_s
        self._wait_s = wait_s
        self._ask = ask
        self._asked = time.monotonic()
        self._poll = select.poll()
        self._poll.register(pipe, select.POLLIN)
        self._size: tuple[int, int] | None = None

    def hear(self) -> Opened | Frame | Ended | Failed:
        """The next answer that says something. Raises Garbled, Silent, and EOFError when there is nobody left to speak."""
        gives_up = time.monotonic() + self._wait_s
        while True:
            deadline = min(gives_up, time.monotonic() + self._silence_s)
            kind, length = HEADER.unpack(self._read(HEADER.size, deadline))
            if kind == FRAME:
                return self._frame(length, deadline)
            if kind in ANSWERS:
                return self._answer(ANSWERS[kind], length, deadline)
            if kind != ALIVE or length:
                raise Garbled(f"kind {kind!r} of {length} bytes")

    def _answer(self, kind: type[Opened] | type[Ended] | type[Failed], length: int, deadline: float) -> Opened | Ended | Failed:
        if length > LONGEST_JSON:
            raise Garbled(f"{length} bytes of JSON")
        try:
            answer = kind.model_validate_json(bytes(self._read(length, deadline)))
        except ValidationError as error:
            raise Garbled(f"{error.error_count()} things wrong with {kind.__name__}") from error
        if isinstance(answer, Opened):
            self._size = (answer.width, answer.height)
        return answer

    def _frame(self, length: int, deadline: float) -> Frame:
        if self._size is None:
            raise Garbled("a frame before its size")
        width, height = self._size
        if length != PTS_MS.size + width * height * 3:
            raise Garbled(f"{length} bytes for a frame of {width} x {height}")
        (pts_ms,) = PTS_MS.unpack(self._read(PTS_MS.size, deadline))
        rgb_hwc = np.empty((height, width, 3), np.uint8)
        self._read_into(rgb_hwc.data.cast("B"), deadline)
        return Frame(pts_ms=pts_ms, rgb_hwc=rgb_hwc)

    def _read(self, length: int, deadline: float) -> bytearray:
        content = bytearray(length)
        self._read_into(memoryview(content), deadline)
        return content

    def _read_into(self, memory: memoryview, deadline: float) -> None:
        while memory:
            self._await(deadline)
            read = os.readv(self._pipe, [memory])
            if not read:
                raise EOFError
            memory = memory[read:]

    def _await(self, deadline: float) -> None:
        """Until there is something to read. The time since the last `ask` runs on from answer to answer, as these may trickle in."""
        while not self._poll.poll(max(0.0, min(deadline, self._asked + ASKS_EVERY_S) - time.monotonic()) * 1000):
            if time.monotonic() >= deadline:
                raise Silent
            self._ask()
            self._asked = time.monotonic()
