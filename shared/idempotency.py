"""What makes a repeated request the same request: a key that the client chose, and what it sent with it."""

import hashlib
import json
from typing import Annotated, Final

from pydantic import Field

from shared.errors import IdempotencyKeyInvalid
from shared.jobs import Contract, Options, Tenant

LONGEST_KEY: Final = 255
KEPT_DAYS: Final = 7
"""For how long a repeated request is answered with the job that the first one made, unless that is deleted."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Idempotency(Contract):
    """Kept beside a job that was asked for with a key, in Redis and in the job's folder.

    The client's own words are not kept: they may say something about a person.
    """

    key: Digest
    """`key_digest` of the tenant and the client's key."""
    fingerprint: Digest
    """`fingerprint` of what was sent."""


def key_digest(tenant: Tenant, key: str) -> str:
    """Names a tenant's key. Raises IdempotencyKeyInvalid when it is empty or has more than 255 characters."""
    if not 1 <= len(key) <= LONGEST_KEY:
        raise IdempotencyKeyInvalid(f"{len(key)} characters", limit=LONGEST_KEY)
    return hashlib.sha256(f"{tenant} {key}".encode()).hexdigest()


def fingerprint(video_sha256: str, options: Options) -> str:
    """Equal for two requests that ask for the same, however they wrote it down."""
    asked_for = options.model_dump(mode="json")
    # Beside the options, where it once was: a key holds for days, whichever version is asked then.
    asked = {"video": video_sha256, "keep_video": asked_for.pop("keep_video"), "options": asked_for}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
