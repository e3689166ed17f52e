"""The webhooks themselves: one JSON file each, by tenant. The files are the truth; no Redis is needed to know whom to tell.

webhooks/                     readable by this user alone: secrets that sign cannot be kept as digests
  <tenant>/<webhook id>.json
  .lock                       held by whoever changes a file
"""

import fcntl
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, ValidationError

from shared.errors import QuotaExceeded, WebhookNotFound
from shared.jobs import Contract, JobState, Milliseconds, Tenant
from shared.videos import storage_errors, write_durably

log = logging.getLogger(__name__)

MOST_OF_TENANT: Final = 20


class EventType(StrEnum):
    """What can be told."""

    SUCCEEDED = "analysis.succeeded"
    FAILED = "analysis.failed"
    CANCELED = "analysis.canceled"


TEST: Final = "webhook.test"
"""Told when it is asked for, to any webhook."""
OF_STATE: Final = {
    JobState.SUCCEEDED: EventType.SUCCEEDED,
    JobState.FAILED: EventType.FAILED,
    JobState.CANCELED: EventType.CANCELED,
}


class DisabledBy(StrEnum):
    """Why nothing is sent."""

    CLIENT = "client"
    """It was asked for."""
    RECEIVER = "receiver"
    """The receiver answered 410 Gone."""


class Secret(Contract):
    """What signs."""

    written: str
    """`whsec_` and 32 random bytes in Base64."""
    until_ms: Milliseconds | None = None
    """When it stops signing, in Unix milliseconds; null for the newest."""


class Webhook(Contract):
    """Everything that is kept about one."""

    id: Annotated[str, Field(pattern=r"^wh_[0-9a-f]{32}$")]
    tenant: Tenant
    url: str
    events: tuple[EventType, ...]
    secrets: tuple[Secret, ...]
    """The newest first."""
    created_ms: Milliseconds
    disabled_by: DisabledBy | None = None

    def hears_of(self, event: EventType, *, at_ms: int) -> bool:
        """Whether it is told about something that happened at that time."""
        return self.disabled_by is None and event in self.events and self.created_ms <= at_ms


class Webhooks:
    """The folder. Blocking; every call raises StorageError when it cannot be read or written."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def prepare(self) -> None:
        with storage_errors():
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def add(self, webhook: Webhook) -> None:
        """Raises QuotaExceeded."""
        with self._changing():
            if len(self.of_tenant(webhook.tenant)) >= MOST_OF_TENANT:
                raise QuotaExceeded(f"{MOST_OF_TENANT} webhooks are as many as there may be", quota="webhooks")
            self._write(webhook)

    def of_tenant(self, tenant: Tenant) -> list[Webhook]:
        """The oldest first."""
        with storage_errors():
            found = [read(path) for path in (self._root / tenant).glob("wh_*.json")]
        return sorted(filter(None, found), key=lambda webhook: (webhook.created_ms, webhook.id))

    def get(self, tenant: Tenant, webhook_id: str) -> Webhook:
        """Raises WebhookNotFound, also for another tenant's."""
        with storage_errors():
            webhook = read(self._path(tenant, webhook_id))
        if webhook is None:
            raise WebhookNotFound
        return webhook

    def find(self, webhook_id: str) -> Webhook | None:
        """Whoever's it is."""
        with storage_errors():
            return next(filter(None, map(read, self._root.glob(f"*/{webhook_id}.json"))), None)

    def change(self, tenant: Tenant, webhook_id: str, change: Callable[[Webhook], Webhook]) -> Webhook:
        """As it is afterwards. Raises WebhookNotFound."""
        with self._changing():
            changed = change(self.get(tenant, webhook_id))
            self._write(changed)
        return changed

    def delete(self, tenant: Tenant, webhook_id: str) -> None:
        """Raises WebhookNotFound."""
        with self._changing():
            try:
                self._path(tenant, webhook_id).unlink()
            except FileNotFoundError:
                raise WebhookNotFound from None

    def _path(self, tenant: Tenant, webhook_id: str) -> Path:
        return self._root / tenant / f"{webhook_id}.json"

    def _write(self, webhook: Webhook) -> None:
        path = self._path(webhook.tenant, webhook.id)
        path.parent.mkdir(exist_ok=True)
        write_durably(path, webhook.model_dump_json(indent=1).encode())

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One at a time, over all gateways."""
        with storage_errors(), (self._root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def read(path: Path) -> Webhook | None:
    """None when there is none, or none of this version."""
    try:
        return Webhook.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        log.exception("not a webhook of this version", extra={"webhook_id": path.stem})
        return None
