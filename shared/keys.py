"""API keys: one JSON file a key, in a folder that services read and the command line writes. Only a digest of the secret is kept.

A key looks like `mien_<id>_<secret>`: the id, which is also its file's name, may be seen by anybody, and the secret is 256 random
bits, which is why a plain SHA-256 of it is enough to keep. What a key may do never changes; one that ought to do something else is a
new key. A key is revoked by writing so in its file, and is dead wherever it is used within 5 seconds.
"""

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Collection, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, NamedTuple

from pydantic import Field, ValidationError

from shared.errors import ApiKeyUnknown
from shared.jobs import Contract, Milliseconds, Tenant
from shared.videos import storage_errors, write_durably

log = logging.getLogger(__name__)

WRITTEN: Final = re.compile(r"mien_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
SECRET_BYTES: Final = 32


class Role(StrEnum):
    """What a key may be used for."""

    CLIENT = "client"
    """Post videos, and read what they came to."""
    OPS = "ops"
    """Look at how the service is doing."""
    PUBLISHER = "publisher"
    """Train, publish, promote and roll back."""


class Purpose(StrEnum):
    """What expressions are recognised for, as the tenant has declared."""

    PERSONAL = "personal"
    RESEARCH = "research"
    MEDIA = "media"
    CUSTOMERS = "customers"
    HEALTH = "health"
    SAFETY = "safety"
    WORKPLACE = "workplace"
    EDUCATION = "education"


class Basis(StrEnum):
    """Why a purpose is lawful that otherwise is not."""

    MEDICAL_OR_SAFETY = "medical_or_safety"


PROHIBITED: Final = frozenset({Purpose.WORKPLACE, Purpose.EDUCATION})
"""Where emotions of people must not be inferred in the European Union, but for medical or safety reasons: AI Act, Article 5(1)(f)."""


class ApiKey(Contract):
    """Everything that is kept about a key. Wall-clock times are Unix milliseconds."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    """Public, and part of the key."""
    tenant: Tenant
    """Whose key it is."""
    roles: Annotated[tuple[Role, ...], Field(min_length=1)]
    """What it may be used for."""
    purpose: Purpose | None = None
    """What the tenant has declared; without it, no video is taken."""
    basis: Basis | None = None
    """Why the purpose is lawful that otherwise is not."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Digest of the secret."""
    created_ms: Milliseconds
    """When it was made."""
    expires_ms: Milliseconds | None = None
    """From when on it is dead."""
    revoked_ms: Milliseconds | None = None
    """Since when it is dead."""

    def is_live(self, now_ms: int) -> bool:
        return self.revoked_ms is None and (self.expires_ms is None or now_ms < self.expires_ms)

    def fits(self, secret: str) -> bool:
        """Takes as long for a wrong secret as for the right one."""
        return hmac.compare_digest(self.sha256, digest(secret))

    def use_is_permitted(self) -> bool:
        """Whether the declared purpose is one that the service may be used for."""
        return self.purpose is not None and (self.purpose not in PROHIBITED or self.basis is Basis.MEDICAL_OR_SAFETY)


class NewKey(NamedTuple):
    """A key that was just made, with what is said once and then known to its owner alone."""

    record: ApiKey
    written: str


class Presented(NamedTuple):
    """What somebody says their key is."""

    key_id: str
    secret: str


class KeyFolder:
    """The keys of one service. Blocking; every call raises StorageError where the folder does not take or give its files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(
        self,
        *,
        tenant: Tenant,
        roles: Collection[Role],
        purpose: Purpose | None = None,
        basis: Basis | None = None,
        lives_s: float | None = None,
    ) -> NewKey:
        """Raises ValidationError when there is no role or the tenant's name is none."""
        secret, created_ms = secrets.token_urlsafe(SECRET_BYTES), now_ms()
        record = ApiKey(
            id=secrets.token_hex(8),
            tenant=tenant,
            roles=tuple(sorted(set(roles))),
            purpose=purpose,
            basis=basis,
            sha256=digest(secret),
            created_ms=created_ms,
            expires_ms=None if lives_s is None else created_ms + round(lives_s * 1000),
        )
        self._write(record)
        return NewKey(record, f"mien_{record.id}_{secret}")

    def rotate(self, key_id: str, *, overlap_s: float) -> NewKey:
        """A second key that may do what this one may, which is dead after `overlap_s`: time enough to change over without a failed
        request. Raises ApiKeyUnknown.
        """
        old = self.get(key_id)
        lives_s = None if old.expires_ms is None else (old.expires_ms - old.created_ms) / 1000
        new = self.create(tenant=old.tenant, roles=old.roles, purpose=old.purpose, basis=old.basis, lives_s=lives_s)
        ends_ms = now_ms() + round(overlap_s * 1000)
        self._write(old.model_copy(update={"expires_ms": min(ends_ms, old.expires_ms or ends_ms)}))
        return new

    def revoke(self, key_id: str) -> ApiKey:
        """Doing it again is harmless. The file stays: it says since when. Raises ApiKeyUnknown."""
        old = self.get(key_id)
        revoked = old.model_copy(update={"revoked_ms": old.revoked_ms or now_ms()})
        self._write(revoked)
        return revoked

    def get(self, key_id: str) -> ApiKey:
        """Raises ApiKeyUnknown, for a file that is no key as well."""
        for key in self.all():
            if key.id == key_id:
                return key
        raise ApiKeyUnknown(key_id)

    def all(self) -> list[ApiKey]:
        """Oldest first, dead ones too. A file that is no key opens nothing, and keeps no other from being read."""
        return sorted(self._readable(), key=lambda key: (key.created_ms, key.id))

    def has_any(self) -> bool:
        """Whether there is a key, be it dead; none where there is no folder yet."""
        return self._folder.exists() and bool(self.version())

    def version(self) -> frozenset[tuple[str, int, int]]:
        """Equal for as long as no key was written or removed."""
        with storage_errors():
            stats = {path.name: path.stat() for path in self._paths()}
        return frozenset((name, stat.st_mtime_ns, stat.st_ino) for name, stat in stats.items())

    def _readable(self) -> Iterator[ApiKey]:
        for path in self._paths():
            with storage_errors():
                content = path.read_bytes()
            key = parsed(content)
            if key is not None and key.id == path.stem:
                yield key
            else:
                log.warning("not an API key", extra={"file": path.name})

    def _paths(self) -> list[Path]:
        with storage_errors():
            return [path for path in self._folder.iterdir() if path.suffix == ".json"]

    def _write(self, record: ApiKey) -> None:
        with storage_errors():
            self._folder.mkdir(parents=True, exist_ok=True)
            write_durably(self._folder / f"{record.id}.json", record.model_dump_json(indent=1).encode())


def presented(written: str) -> Presented | None:
    """The parts of what may be a key; None when it cannot be one."""
    found = WRITTEN.fullmatch(written)
    return Presented(*found.groups()) if found else None


def parsed(content: bytes) -> ApiKey | None:
    try:
        return ApiKey.model_validate_json(content)
    except ValidationError:
        return None


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def now_ms() -> int:
    return time.time_ns() // 1_000_000
