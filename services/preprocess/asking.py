"""Whoever waits for long is asked, now and then, whether that is still wanted: a client cancels, and a lease is lost, at any time."""

from collections.abc import Callable
from typing import Final

ASKS_EVERY_S: Final = 1.0

Ask = Callable[[], None]
"""Called about every second of waiting; what it raises ends the wait."""


def nobody() -> None:
    """For those who wait to the end."""
