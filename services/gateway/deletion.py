"""Removing an analysis, and the receipt for it: what was on the disk is counted as it goes."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Final

from anyio import to_thread
from pydantic import Field

from services.gateway.results import Results
from services.gateway.schemas import EXAMPLE_ID
from shared.errors import JobNotFound, MediaMissing
from shared.jobs import Contract, Milliseconds, Tenant
from shared.queue import GatewayQueue
from shared.videos import Videos

KINDS: Final = {"video": "video", "result": "results", "windows": "windows"}
"""What files are called, up to the number of the attempt, and what they are to a client. All others are records."""


class Receipt(Contract):
    """What was removed of an analysis, and when."""

    id: Annotated[str, Field(examples=[EXAMPLE_ID])]
    """Of the analysis."""
    deleted_ms: Annotated[Milliseconds, Field(examples=[1795435200000])]
    """When all of it was gone; Unix milliseconds."""
    removed: Annotated[dict[str, Annotated[int, Field(ge=0)]], Field(examples=[{"video": 188355, "results": 5210, "records": 1320}])]
    """Bytes on the disk by what they were: the `video`, `results`, `windows` as they were judged, and `records` of what was asked for
    and how it ended. What had been removed before, as the video is soon after the end, is not named."""
    bytes: Annotated[int, Field(ge=0, examples=[194885])]
    """All of that."""


EXAMPLE: Final = Receipt(id=EXAMPLE_ID, deleted_ms=1795435200000, removed={"video": 188355, "results": 5210, "records": 1320}, bytes=194885)


async def remove(analysis_id: str, tenant: Tenant, *, videos: Videos, queue: GatewayQueue, results: Results) -> Receipt:
    """Remove the files, the record, and what is still in memory. Raises JobNotFound, StorageError, QueueUnavailable."""
    # The files first: if the record cannot be removed then, the same request can be sent again.
    sizes = await to_thread.run_sync(remove_files, videos, analysis_id, tenant)
    try:
        await queue.delete(analysis_id, tenant=tenant)
    except JobNotFound:  # files may outlive their record, which Redis forgets after a time
        if not sizes:
            raise
    results.forget()
    removed = by_kind(sizes)
    return Receipt(id=analysis_id, deleted_ms=time.time_ns() // 1_000_000, removed=removed, bytes=sum(removed.values()))


def remove_files(videos: Videos, analysis_id: str, tenant: Tenant) -> Mapping[str, int]:
    """What `Videos.delete` does. Raises JobNotFound, and touches none, when they are another tenant's: the files say so themselves."""
    try:
        if videos.manifest(analysis_id).tenant != tenant:
            raise JobNotFound
    except MediaMissing:
        return {}
    return videos.delete(analysis_id)


def by_kind(sizes: Mapping[str, int]) -> dict[str, int]:
    """Bytes of files by what they are."""
    kinds: Counter[str] = Counter()
    for name, size in sizes.items():
        kinds[KINDS.get(name.partition(".")[0].partition("-")[0], "records")] += size
    return dict(kinds)
