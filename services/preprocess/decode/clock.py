"""When each decoded frame is shown, and which frames are looked at. Pure arithmetic: knows no decoder."""

from fractions import Fraction
from typing import Final

from shared.errors import MediaTimestampsInvalid

MS: Final = 1000
TOLERANCE_MS: Final = 1
"""Containers round times (Matroska to the millisecond), so a frame this close before a sampling tick counts as on it."""
JITTER_MS: Final = 2
JITTER_SHARE: Final = 0.2
"""Gaps between frames may differ by the larger of these two before the frame rate counts as variable."""


class Clock:
    """Turns presentation timestamps into integer milliseconds of media time, which never stand still or run back.

    A frame without a timestamp, or with one that does not lie after its predecessor's, follows its predecessor by the
    nominal frame duration; what comes after a jump back continues from there.
    """

    def __init__(self, *, time_base: Fraction | None, rate: Fraction | None, origin: int | None = None) -> None:
        """`time_base`: seconds per timestamp unit. `rate`: nominal frames per second. None or 0 where the container does not say.

        `origin`: the timestamp at which a player's clock shows 0, which is before the first frame where sound begins
        earlier; None where the first frame is the beginning.
        """
        if not time_base or time_base < 0:
            raise MediaTimestampsInvalid("the video stream has no time base")
        if time_base >= 1 and (not rate or rate * time_base < 1):  # what FFmpeg makes of a time base of zero
            raise MediaTimestampsInvalid(f"the video's clock counts in steps of {time_base} s")
        self._time_base = time_base
        self._nominal_units = max(1, round(1 / (rate * time_base))) if rate and rate > 0 else None
        self._origin = origin
        self._last: int | None = None
        self._duration: int | None = None
        self._gaps: tuple[int, int] | None = None

    def tell_ms(self, pts: int | None, duration: int | None) -> int:
        """The time of the next frame in presentation order. Both arguments are in units of the time base.

        Raises MediaTimestampsInvalid when neither the timestamp nor any duration says when the frame is shown.
        """
        now = self._elapsed(pts)
        if self._last is None:
            now = max(0, now)
            self._origin = None if pts is None else pts - now
        elif now <= self._last:
            now = self._last + self._step()
            self._origin = None if pts is None else pts - now
        elif pts is not None:
            self._note_gap(now - self._last)
        self._last, self._duration = now, duration or None
        return self._ms(now)

    @property
    def end_ms(self) -> int:
        """When the last frame told so far stops being shown; its own time where no duration is known."""
        return self._ms((self._last or 0) + (self._duration or self._nominal_units or 0))

    @property
    def irregular(self) -> bool:
        """Whether the frame rate is variable."""
        if self._gaps is None:
            return False
        shortest_ms, longest_ms = (float(units * self._time_base * MS) for units in self._gaps)
        return longest_ms - shortest_ms > max(JITTER_MS, JITTER_SHARE * shortest_ms)

    def _elapsed(self, pts: int | None) -> int:
        """Units since the origin; -1 says that the timestamp does not tell."""
        return -1 if pts is None or self._origin is None else pts - self._origin

    def _step(self) -> int:
        step = self._duration or self._nominal_units
        if step is None:
            raise MediaTimestampsInvalid("frames have neither timestamps nor a frame rate")
        return step

    def _note_gap(self, units: int) -> None:
        shortest, longest = self._gaps or (units, units)
        self._gaps = min(shortest, units), max(longest, units)

    def _ms(self, units: int) -> int:
        return round(units * self._time_base * MS)


class Sampler:
    """Picks the first frame at or after each tick of a sampling rate; a slower video is taken frame by frame, never twice."""

    def __init__(self, sample_fps: float) -> None:
        if not sample_fps > 0:
            raise ValueError("sample_fps must be positive")
        self._sample_fps = sample_fps
        self._next_tick = 0

    def wants(self, pts_ms: int) -> bool:
        """Whether the frame shown at `pts_ms` is looked at. Ask once per frame, in order."""
        ticks_passed = int((pts_ms + TOLERANCE_MS) * self._sample_fps / MS)
        if ticks_passed < self._next_tick:
            return False
        self._next_tick = ticks_passed + 1
        return True
