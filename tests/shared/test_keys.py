"""API keys in their folder: what is kept, what opens, what has ended."""

from pathlib import Path

import pytest

from shared.errors import ApiKeyUnknown, StorageError
from shared.keys import KeyFolder, Purpose, Role, now_ms, presented

CLIENT = {"tenant": "acme", "roles": [Role.CLIENT], "purpose": Purpose.RESEARCH}


@pytest.fixture
def keys(tmp_path: Path) -> KeyFolder:
    return KeyFolder(tmp_path / "keys")


def opens(keys: KeyFolder, *written: str) -> list[bool]:
    """Which of them are a live key."""
    live = {key.id: key for key in keys.all() if key.is_live(now_ms())}
    found = [presented(each) for each in written]
    return [parts is not None and parts.key_id in live and live[parts.key_id].fits(parts.secret) for parts in found]


def test_a_key_opens_and_nothing_like_it_does(keys: KeyFolder) -> None:
    record, written = keys.create(**CLIENT)
    other = keys.create(**CLIENT)
    parts = presented(written)
    assert parts is not None
    assert parts.key_id == record.id
    swapped = f"mien_{record.id}_{other.written[-43:]}"
    assert opens(keys, written, other.written, swapped, written[:-1], f" {written}", written.upper(), "", "mien__", record.sha256) == (
        [True, True] + [False] * 7
    )


def test_what_is_kept_does_not_open(keys: KeyFolder, tmp_path: Path) -> None:
    written = [keys.create(**CLIENT).written for _ in range(20)]
    kept = "".join(path.read_text() for path in (tmp_path / "keys").iterdir())
    assert not [each for each in written if each[-43:] in kept]
    assert len({each[-43:] for each in written}) == 20


def test_a_key_ends_when_it_expires_is_revoked_or_was_rotated_long_enough_ago(keys: KeyFolder) -> None:
    short = keys.create(**CLIENT, lives_s=0)
    revoked, rotated = keys.create(**CLIENT), keys.create(**CLIENT)
    assert opens(keys, short.written, revoked.written, rotated.written) == [False, True, True]
    first = keys.revoke(revoked.record.id)
    assert keys.revoke(revoked.record.id) == first, "since when does not change"
    new = keys.rotate(rotated.record.id, overlap_s=60)
    assert opens(keys, revoked.written, rotated.written, new.written) == [False, True, True]
    assert (new.record.tenant, new.record.roles, new.record.purpose) == ("acme", (Role.CLIENT,), Purpose.RESEARCH)
    keys.rotate(rotated.record.id, overlap_s=0)
    assert opens(keys, rotated.written, new.written) == [False, True]


def test_rotating_lets_no_key_live_longer(keys: KeyFolder) -> None:
    old = keys.create(**CLIENT, lives_s=100)
    new = keys.rotate(old.record.id, overlap_s=1000)
    assert keys.get(old.record.id).expires_ms == old.record.expires_ms
    assert new.record.expires_ms is not None
    assert abs(new.record.expires_ms - now_ms() - 100_000) < 5000


def test_unknown_keys_are_named(keys: KeyFolder, tmp_path: Path) -> None:
    keys.create(**CLIENT)
    with pytest.raises(ApiKeyUnknown):
        keys.revoke("0" * 16)
    with pytest.raises(StorageError):
        KeyFolder(tmp_path / "nowhere").all()


def test_a_file_that_is_no_key_opens_nothing_and_hides_no_other(keys: KeyFolder, tmp_path: Path) -> None:
    record, written = keys.create(**CLIENT)
    folder = tmp_path / "keys"
    (folder / "broken.json").write_text("{")
    (folder / f"{'0' * 16}.json").write_text((folder / f"{record.id}.json").read_text())
    assert keys.all() == [record], "a copy under another name is none, either"
    assert opens(keys, written) == [True]
