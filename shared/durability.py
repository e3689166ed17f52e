"""Settings of Redis without which an accepted job could be lost."""

from collections.abc import Mapping
from typing import Final

SAFE: Final = {
    "appendonly": "yes",
    "appendfsync": "always",  # a reply means that the write is on the disk
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",  # a full Redis refuses new jobs, and drops none
}


def unsafe(settings: Mapping[str, str]) -> tuple[str, ...]:
    """What is wrong with these, in words: `appendfsync is everysec, not always`."""
    return tuple(f"{name} is {settings.get(name, 'unknown')}, not {safe}" for name, safe in SAFE.items() if settings.get(name) != safe)
