"""How much of a machine one video may take."""

from math import ceil
from typing import Annotated, Any, Final

from pydantic import Field

from shared.jobs import Contract
from shared.pixels import MAX_PIXELS

MAX_SIDE: Final = 8192
MAX_DURATION_MS: Final = 30 * 60 * 1000
FRAMES_PER_SECOND: Final = 60
LEAST_CPU_S: Final = 300
FFMPEG_ALIGNS_TO: Final = 64

Positive = Annotated[int, Field(gt=0)]


def most_frames(duration_ms: int) -> int:
    """How many frames are decoded, at most, of a video that may take so long: 60 for each second of it.

    A camera's 240 frames per second may go on for a quarter of that; a million tiny frames are an attack.
    """
    return max(FRAMES_PER_SECOND, duration_ms * FRAMES_PER_SECOND // 1000)


def enough_cpu_s(limits: dict[str, Any]) -> int:
    """CPU time to decode a video that may take as long as these limits say: a second for each of it.

    Five minutes at least, since what comes before a part may have to be decoded, too.
    """
    max_duration_ms: int = limits["max_duration_ms"]
    return max(LEAST_CPU_S, ceil(max_duration_ms / 1000))


class Limits(Contract):
    """What decoding one video may take before it fails."""

    max_pixels: Positive = MAX_PIXELS
    """Of a frame, as it is stored and as it is shown."""
    max_side: Positive = MAX_SIDE
    """Of its longer side, in pixels: a ribbon is no video, and every row of it costs."""
    max_duration_ms: Positive = MAX_DURATION_MS
    """Of the part that is asked for, in media time; also bounds how many frames are decoded, see `most_frames`."""
    threads: Positive = 2
    """Of the decoder. Each holds a few frames more."""
    memory_bytes: Annotated[int, Field(ge=384 << 20)] = 2 << 30
    """Address space of the process that decodes, of which Python and FFmpeg take 0.3 GiB."""
    cpu_s: int = Field(gt=0, default_factory=enough_cpu_s)
    """CPU time of the process that decodes; see `enough_cpu_s`."""
    silence_s: Annotated[float, Field(gt=0)] = 30.0
    """How long that process may make the worker wait without a whole word."""
    wait_s: Annotated[float, Field(gt=0)] = 3600.0
    """How long it may make the worker wait for a frame, however lively it says to be."""
    unconfined: bool = False
    """Decode even where the kernel cannot confine a process, which is no place for strangers' videos. A warning is logged."""

    @property
    def padded_pixels(self) -> int:
        """What FFmpeg is told: it counts rows rounded up to 64 pixels, and would refuse what is just within the limit."""
        return self.max_pixels + FFMPEG_ALIGNS_TO * self.max_side
