"""Proof of who tells it: headers by the Standard Webhooks library, from the secrets that sign now."""

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook as Signer

from services.gateway.webhooks.records import Secret

SECRET_BYTES: Final = 32
OVERLAP_MS: Final = 24 * 3600 * 1000
"""For how long the secret before signs, too, so that a receiver can change over."""


def new_secret() -> Secret:
    return Secret(written=f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}")


def rotated(old: Sequence[Secret], *, now_ms: int) -> tuple[Secret, ...]:
    """A new one, and those that still sign for a while: the last one, and any that was to."""
    retiring = (one if one.until_ms else one.model_copy(update={"until_ms": now_ms + OVERLAP_MS}) for one in old)
    return (new_secret(), *live(tuple(retiring), now_ms=now_ms))


def live(known: Sequence[Secret], *, now_ms: int) -> tuple[Secret, ...]:
    return tuple(one for one in known if one.until_ms is None or now_ms < one.until_ms)


def signed_headers(message_id: str, content: str, known: Sequence[Secret], *, now_ms: int) -> dict[str, str]:
    """With one signature per live secret, the newest first."""
    at = datetime.fromtimestamp(now_ms // 1000, UTC)
    signatures = [Signer(one.written).sign(message_id, at, content) for one in live(known, now_ms=now_ms)]
    return {"webhook-id": message_id, "webhook-timestamp": str(now_ms // 1000), "webhook-signature": " ".join(signatures)}
