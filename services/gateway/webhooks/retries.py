"""When a delivery that failed is tried again: by the schedule of the specification, or when the receiver asks for it."""

import random
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import Final

MINUTE: Final = 60.0
HOUR: Final = 3600.0

WAITS_S: Final = (5.0, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
"""After the first try, after the second, and so on: three days and three hours in all."""
JITTER: Final = 0.1
"""A wait is longer by up to this share of it, so that not all that failed together is tried together."""
LONGEST_S: Final = 24 * HOUR
"""That a receiver can ask for."""


def next_in_s(tries: int, waits_s: Sequence[float], *, asked_s: float | None = None) -> float | None:
    """In how long, after that many tries; None after the last one. `asked_s` is what the receiver wants at the least."""
    if tries > len(waits_s):
        return None
    wait_s = waits_s[tries - 1] * (1 + JITTER * random.random())  # noqa: S311 -- no secret
    return max(wait_s, min(asked_s or 0, LONGEST_S))


def retry_after_s(header: str | None, *, now_s: float) -> float | None:
    """What `Retry-After` says, as seconds or as a date; None when it says nothing that can be understood."""
    if not header:
        return None
    if header.isascii() and header.isdigit():
        return float(header[:9])
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now_s)
    except (ValueError, OverflowError):
        return None
