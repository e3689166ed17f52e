"""The API keys of a folder, in memory: looked for again when they are two seconds old, so that a revoked one is dead within five."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from anyio import to_thread

from shared.keys import ApiKey, KeyFolder, now_ms, presented

LOOK_EVERY_S: Final = 2.0


class KeyRing:
    """Reads the files when one of them has changed. Raises StorageError where it cannot look: then no key can be told from a dead one."""

    def __init__(self, folder: KeyFolder) -> None:
        self._folder = folder
        self._version: frozenset[tuple[str, int, int]] | None = None
        self._keys: Mapping[str, ApiKey] = {}
        self._had_none = True
        self._looked_s = float("-inf")
        self._looking = asyncio.Lock()

    async def find(self, written: str) -> ApiKey | None:
        """The live key that this is."""
        parts = presented(written)
        if parts is None:
            return None
        await self._look()
        key = self._keys.get(parts.key_id)
        return key if key is not None and key.fits(parts.secret) and key.is_live(now_ms()) else None

    async def had_none(self) -> bool:
        """Whether there never was a key, dead ones included: who revokes or removes the last one does not ask for open doors."""
        await self._look()
        return self._had_none

    async def _look(self) -> None:
        async with self._looking:
            began_s = time.monotonic()
            if began_s - self._looked_s >= LOOK_EVERY_S:
                await to_thread.run_sync(self._read)
                self._looked_s = began_s

    def _read(self) -> None:
        version = self._folder.version()
        if version != self._version:
            self._keys = {key.id: key for key in self._folder.all()}
            self._version = version
            self._had_none &= not version
