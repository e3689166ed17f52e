"""One upload, as it is kept beside its bytes."""

import secrets
import time
from typing import Annotated, Final

from pydantic import Field

from services.gateway.tus.headers import options_of
from shared.jobs import Contract, Milliseconds, Options, Tenant

LIVES_MS: Final = 24 * 3600 * 1000


class Upload(Contract):
    """What a client has promised to send. Wall-clock times are Unix milliseconds."""

    id: Annotated[str, Field(pattern=r"^up_[0-9a-f]{32}$")]
    """128 random bits."""
    tenant: Tenant
    """Whose it is."""
    length: Annotated[int, Field(gt=0)]
    """Bytes of the whole video."""
    metadata: dict[str, str]
    """The analysis's options, in the client's words."""
    request_id: str = ""
    """`X-Request-Id` of the request that began it."""
    traceparent: str = ""
    """W3C trace context of that request; empty when nobody asked for traces."""
    expires_ms: Milliseconds
    """When it is removed, whole or not."""
    sha256: str | None = None
    """Digest of the video, from when it is whole."""
    finished: bool = False
    """Whether the analysis is queued: nothing is left to do."""

    @property
    def job_id(self) -> str:
        """The analysis that it becomes: known from the start, so that however often it is finished, there is only one."""
        return f"an_{self.id.removeprefix('up_')}"

    @property
    def options(self) -> Options:
        return options_of(self.metadata)

    @property
    def is_expired(self) -> bool:
        return now_ms() >= self.expires_ms


def new_upload(*, tenant: Tenant, length: int, metadata: dict[str, str], request_id: str = "", traceparent: str = "") -> Upload:
    return Upload(
        id=f"up_{secrets.token_hex(16)}",
        tenant=tenant,
        length=length,
        metadata=metadata,
        request_id=request_id,
        traceparent=traceparent,
        expires_ms=now_ms() + LIVES_MS,
    )


def now_ms() -> int:
    return time.time_ns() // 1_000_000
