"""What is told: who and what it is about, and where to read more. The rest is for whoever may read it."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from services.gateway.schemas import analysis_path
from services.gateway.webhooks.records import OF_STATE, TEST, Webhook
from shared.deliveries import NewDelivery
from shared.jobs import Job

CARRIED = ("id", "state", "created_ms", "started_ms", "ended_ms")
"""Of an analysis, as polling shows it."""


def about(job: Job, webhook: Webhook, *, public_url: str) -> NewDelivery:
    """That a job has ended. Its id follows from what it says, so that it is the same whoever makes it, and however often."""
    event = OF_STATE[job.state]
    data = {**job.model_dump(mode="json", include=set(CARRIED)), "url": f"{public_url}{analysis_path(job.id)}"}
    name = hashlib.sha256(f"{webhook.id} {job.id} {event}".encode()).hexdigest()[:32]
    return NewDelivery(id=f"msg_{name}", webhook=webhook.id, type=event, payload=payload(event, job.ended_ms or 0, data))


def test(webhook: Webhook, *, at_ms: int) -> NewDelivery:
    """About nothing."""
    content = payload(TEST, at_ms, {"webhook": webhook.id})
    return NewDelivery(id=f"msg_{secrets.token_hex(16)}", webhook=webhook.id, type=TEST, payload=content)


def payload(event: str, at_ms: int, data: Mapping[str, Any]) -> str:
    """As the specification suggests it. Made once: a repetition has the same bytes."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"type": event, "timestamp": at, "data": data}, separators=(",", ":"))
