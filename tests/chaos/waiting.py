"""Waiting for something to become true, with an end."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class TooLate(Exception):
    """It did not become true in time."""


def wait_for(seen: Callable[[], T], *, within_s: float, what: str, every_s: float = 0.05) -> T:
    """The first answer that is true. Raises TooLate."""
    deadline_s = time.monotonic() + within_s
    while not (answer := seen()):
        if time.monotonic() > deadline_s:
            raise TooLate(f"{what}: not within {within_s:.0f} s")
        time.sleep(every_s)
    return answer


def seconds_until(true: Callable[[], bool], *, within_s: float) -> float:
    """How long it took; `within_s` or a little more where it did not come true."""
    began = time.monotonic()
    with suppress(TooLate):
        wait_for(true, within_s=within_s, what="it", every_s=0.2)
    return time.monotonic() - began
