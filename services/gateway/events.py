"""`/v1/analyses/{analysis_id}/events`: how an analysis is doing, told as it happens (server-sent events).

An event's id says what its reader has by then: the revision of the record, and the place up to which the windows were told. It means
the same to every gateway, also after a restart, so whoever reads on from an id gets all that followed and nothing again.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Final, NamedTuple

from anyio import to_thread
from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response, Security
from fastapi.sse import EventSourceResponse, ServerSentEvent

from services.gateway.analyses import AnalysisId, Client
from services.gateway.parts import Given, Parts
from services.gateway.problems import problems
from services.gateway.schemas import Analysis, WindowPage
from services.gateway.watching import Watch
from services.web import paging
from services.web.errors import DependencyUnavailable
from services.web.guard import BEARER, Credentials, Guard, client
from shared.errors import Gone, JobNotFound, MediaMissing, MienError, QuotaExceeded, ResultGone, ResultUnreadable, StorageError
from shared.jobs import FINAL_STATES
from shared.queue import Look

router = APIRouter(prefix="/v1/analyses", tags=["analyses"], dependencies=[Depends(client)])

AT_ONCE: Final = 200
"""Windows in one event."""
LOOK_AGAIN_S: Final = 2.0
"""So often it is seen whether the reader's key is still good, and whether what could not be read can be."""
LAST_PLACE: Final = 2**47
"""Behind every window: said when there are no more to come."""
WRITTEN: Final = re.compile(r"([0-9]{1,16})-([0-9]{1,15})(-end)?")


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a reader has been told."""

    revision: int = -1
    """Of the record; below every one before the first."""
    place: int = 0
    """Up to which windows were told, in the order of `/windows`."""
    is_all: bool = False
    """The analysis is final, and there is nothing more to say."""

    def __str__(self) -> str:
        return f"{self.revision}-{self.place}{'-end' if self.is_all else ''}"

    @classmethod
    def parse(cls, text: str) -> "Told":
        """What is no id of ours says nothing: then all is told from the beginning."""
        written = WRITTEN.fullmatch(text)
        return cls(revision=int(written[1]), place=min(int(written[2]), LAST_PLACE), is_all=bool(written[3])) if written else cls()


class Reader(NamedTuple):
    """Who reads, from where on, and whether they still may."""

    watch: Watch
    told: Told
    is_welcome: Callable[[], Awaitable[bool]]


class AllTold(Exception):
    """The reader has all that there will ever be."""


def install(app: FastAPI) -> None:
    """204 is what tells a browser not to come back."""

    async def no_content(_request: Request, _error: Exception) -> Response:
        return Response(status_code=HTTPStatus.NO_CONTENT)

    app.add_exception_handler(AllTold, no_content)


async def reading(
    request: Request,
    analysis_id: AnalysisId,
    parts: Given,
    caller: Client,
    credentials: Annotated[Credentials, Security(BEARER)],
    last_event_id: Annotated[str, Header(description="`id` of the last event that was received, to go on behind it.")] = "",
) -> AsyncIterator[Reader]:
    """From before the answer begins until it is over. Raises JobNotFound, QuotaExceeded, AllTold."""
    told = Told.parse(last_event_id)
    guard: Guard = request.app.state.guard
    look = await parts.queue.look(analysis_id, tenant=caller.tenant)
    if told.is_all and look.revision <= told.revision:
        raise AllTold
    with parts.watching.watch(look) as watch:
        yield Reader(watch, replace(told, is_all=False), partial(guard.is_welcome, credentials))


@router.get(
    "/{analysis_id}/events",
    summary="Follow an analysis",
    response_class=EventSourceResponse,
    responses={
        204: {"description": "The last event that was received was the end."},
        **problems(JobNotFound, Gone, QuotaExceeded, DependencyUnavailable),
    },
)
async def events(parts: Given, reader: Annotated[Reader, Depends(reading)]) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events, from the record as it is now to the end.

    `analysis` holds the record, first as it is and then whenever it has changed; changes that follow closely become one.
    `windows` holds what was judged since, as `/windows` does. `end` is the last one, after which the connection closes; `deleted`
    takes its place when the analysis is removed meanwhile. Send the last `id` as `Last-Event-ID` to go on after an interruption,
    at any gateway: nothing is missed, and nothing repeated. A comment is sent after 15 seconds without an event.
    """
    told, watch = reader.told, reader.watch
    while not watch.over:
        if watch.look is not None:
            async for event in news(parts, watch.look, told):
                told = event.told
                yield event.sent()
            if told.is_all:
                return
        elif await to_thread.run_sync(is_deleted, parts, watch.job_id):  # else Redis forgot it, and will be told from the folder
            yield ServerSentEvent(event="deleted", data={"id": watch.job_id})
            return
        await watch.change(within_s=LOOK_AGAIN_S)
        if not await reader.is_welcome():
            return


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event, and what its reader has been told with it."""

    told: Told
    name: str
    data: Any

    def sent(self) -> ServerSentEvent:
        return ServerSentEvent(event=self.name, data=self.data, id=str(self.told))


async def news(parts: Parts, look: Look, told: Told) -> AsyncIterator[Event]:
    """What a reader has not been told yet."""
    if look.revision > told.revision:
        told = replace(told, revision=look.revision)
        yield Event(told=told, name="analysis", data=Analysis.of(look.job))
    is_final = look.job.state in FINAL_STATES
    while told.place < LAST_PLACE:
        try:
            page = await to_thread.run_sync(page_of, parts, look, told.place)
        except (ResultGone, ResultUnreadable):
            break  # then the record says all there is
        except StorageError:
            return  # it will be back
        place = paging.place_of(page.next_page_token) if page.next_page_token else LAST_PLACE
        is_new, told = place > told.place, replace(told, place=place)
        if page.windows:
            yield Event(told=told, name="windows", data=page)
        if not is_new:
            break
    if is_final:
        yield Event(told=replace(told, is_all=True), name="end", data={"id": look.job.id, "state": look.job.state})


def page_of(parts: Parts, look: Look, place: int) -> WindowPage:
    return parts.windows.page(look.job, look.attempt, first=place, most=AT_ONCE)


def is_deleted(parts: Parts, job_id: str) -> bool:
    """Whether its folder is gone, too."""
    try:
        parts.videos.manifest(job_id)
    except MediaMissing:
        return True
    except MienError:
        return False
    return False
