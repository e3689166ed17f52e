"""API keys as a service sees them: at once, and never for longer than they live."""

import asyncio
import secrets
from pathlib import Path

import pytest

from services.web.keyring import KeyRing
from shared.errors import StorageError
from shared.keys import KeyFolder, Purpose, Role

CLIENT = {"tenant": "acme", "roles": [Role.CLIENT], "purpose": Purpose.RESEARCH}


@pytest.fixture
def keys(tmp_path: Path) -> KeyFolder:
    return KeyFolder(tmp_path / "keys")


def test_a_hundred_thousand_guesses_at_a_key_whose_id_is_known_open_nothing(keys: KeyFolder) -> None:
    record, written = keys.create(**CLIENT)

    async def guess() -> int:
        ring = KeyRing(keys)
        assert await ring.find(written) == record
        return sum([await ring.find(f"mien_{record.id}_{secrets.token_urlsafe(32)}") is not None for _ in range(100_000)])

    assert asyncio.run(guess()) == 0


def test_a_ring_sees_every_change_and_never_again_opens_the_door_to_everybody(
    keys: KeyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.web.keyring.LOOK_EVERY_S", 0.0)
    (tmp_path / "keys").mkdir()

    async def change() -> None:
        ring = KeyRing(keys)
        assert await ring.had_none()
        record, written = keys.create(**CLIENT)
        assert await ring.find(written) == record
        keys.revoke(record.id)
        assert await ring.find(written) is None
        (tmp_path / "keys" / f"{record.id}.json").unlink()
        assert await ring.find(written) is None
        assert not await ring.had_none()
        (tmp_path / "keys").rmdir()
        with pytest.raises(StorageError):
            await ring.find(written)

    asyncio.run(change())
