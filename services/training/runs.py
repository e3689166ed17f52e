"""`/v1/runs`: start a training run, watch it, stop it, read what it learnt."""

import asyncio
import logging
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Final

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Path, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from services.training.parts import Given
from services.training.plans import require_known_names
from services.training.problems import problems
from services.training.schemas import EXAMPLE_RUN, RunItem, RunPage, TrainingRun
from services.web import paging
from services.web.errors import BodyTooLarge, BodyTooSlow, DependencyUnavailable, ValidationFailed
from services.web.guard import CHANGING, reader
from shared.errors import InsufficientStorage, RunConflict, RunMismatch, RunNotFound
from shared.jobs import FINAL_STATES, JobState
from training import news, report
from training.plan import Plan
from training.record import Record
from training.runs import Run, Runs, RunStatus, id_of_text

log = logging.getLogger(__name__)

router = APIRouter(prefix="/v1/runs", tags=["runs"], dependencies=[Depends(reader)])

LIST_DEFAULT, LIST_MOST = 50, 500
LOCATION: Final = {
    "Location": {"description": "The run.", "schema": {"type": "string", "examples": [f"/v1/runs/{EXAMPLE_RUN}"]}},
}


class Markdown(Response):
    """Text for people."""

    media_type = "text/markdown"


async def known(parts: Given, run_id: Annotated[str, Path(description="The run, as in `id`.", examples=[EXAMPLE_RUN])]) -> Run:
    """Raises RunNotFound."""
    return await to_thread.run_sync(parts.runs.get, run_id)


Known = Annotated[Run, Depends(known)]
State = Annotated[JobState | None, Query(description="Only runs in this state.")]
ListSize = Annotated[int, Query(ge=0, description=f"Runs at most. 0: {LIST_DEFAULT}; more than {LIST_MOST}: {LIST_MOST}.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        description="A text of your own: the same key with the same plan is the same run, however often it is sent.",
    ),
]
LastEventId = Annotated[str | None, Header(description="`id` of the last event you saw, to go on after it.")]


@router.post(
    "",
    summary="Start a run",
    dependencies=CHANGING,
    status_code=HTTPStatus.ACCEPTED,
    responses={
        202: {"description": "The run is promised: it outlives this server.", "headers": LOCATION},
        **problems(ValidationFailed, RunMismatch, BodyTooSlow, BodyTooLarge, DependencyUnavailable, InsufficientStorage),
    },
)
async def create(plan: Plan, response: Response, parts: Given, idempotency_key: IdempotencyKey = None) -> TrainingRun:
    """The plan names crop stores as `GET /v1/stores` does, and as `teacher` a published release such as `mien_000001`."""
    run_id = idempotency_key and id_of_text(f"key {idempotency_key}")

    def accept() -> RunStatus:
        require_known_names(plan, stores=parts.stores, models=parts.models)
        return parts.runs.status(parts.runs.accept(plan, run_id=run_id).id)

    run = await to_thread.run_sync(accept)
    log.info("accepted", extra={"entry": run.id})
    parts.look()
    response.headers["Location"] = f"/v1/runs/{run.id}"
    return TrainingRun.of(run)


@router.get("", summary="List runs", responses=problems(ValidationFailed, DependencyUnavailable))
async def list_all(parts: Given, page_size: ListSize = 0, page_token: paging.PageToken = None, state: State = None) -> RunPage:
    """Newest first."""
    before_ms = paging.place_of(page_token)
    size = paging.page_size(page_size, default=LIST_DEFAULT, most=LIST_MOST)
    return await to_thread.run_sync(lambda: page(parts.runs, before_ms=before_ms, size=size, state=state))


@router.get("/{run_id}", summary="How a run is doing", responses=problems(RunNotFound, DependencyUnavailable))
async def read(run: Known, parts: Given) -> TrainingRun:
    """Its state, progress, rounds so far and, if it failed, why."""
    return await status(parts.runs, run)


@router.get(
    "/{run_id}/events",
    summary="Watch a run",
    response_class=EventSourceResponse,
    responses={
        200: {"description": "`run` events hold a run as `GET /v1/runs/{run_id}` shows it, `epoch` events one finished epoch."},
        **problems(RunNotFound, DependencyUnavailable),
    },
)
async def events(run: Known, parts: Given, last_event_id: LastEventId = None) -> AsyncIterator[ServerSentEvent]:
    """First the run as it is, then every epoch there was, then whatever happens. The stream ends after a `run` event with a final state;
    close it then, since a browser would connect anew.
    """
    place, over = news.Place.parse(last_event_id or ""), False
    while not over and not parts.stopping.is_set():
        try:
            over = (await to_thread.run_sync(parts.runs.get, run.id)).state in FINAL_STATES
            latest = await to_thread.run_sync(lambda: list(news.since(parts.runs, run.id, place)))  # noqa: B023 -- awaited at once
        except RunNotFound:
            return  # deleted while it was watched
        for each in latest:
            place = each.place
            yield event(each)
        if not over:
            await asyncio.sleep(news.LOOK_EVERY_S)


@router.get("/{run_id}/record", summary="The rounds of a run", responses=problems(RunNotFound, RunConflict, DependencyUnavailable))
async def record(run: Known, parts: Given) -> Record:
    """What each round learnt from and was measured at, confusion matrices included; from the first finished round on."""
    return await to_thread.run_sync(require_record, parts.runs, run)


@router.get(
    "/{run_id}/report",
    summary="The report of a run",
    response_class=Markdown,
    responses={200: {"description": "Markdown."}, **problems(RunNotFound, RunConflict, DependencyUnavailable)},
)
async def read_report(run: Known, parts: Given) -> Markdown:
    """The record in words and tables, for people."""
    found = await to_thread.run_sync(require_record, parts.runs, run)
    return Markdown(report.render(found, run.plan))


@router.post(
    "/{run_id}:cancel",
    summary="Stop a run",
    dependencies=CHANGING,
    responses=problems(RunNotFound, RunConflict, DependencyUnavailable),
)
async def cancel(run: Known, parts: Given) -> TrainingRun:
    """A queued one is canceled at once; a running one within seconds, and says `cancel_requested` until then."""
    return await status(parts.runs, await to_thread.run_sync(parts.runs.cancel, run.id))


@router.post(
    "/{run_id}:resume",
    summary="Let a run go on",
    dependencies=CHANGING,
    responses=problems(RunNotFound, RunConflict, DependencyUnavailable),
)
async def resume(run: Known, parts: Given) -> TrainingRun:
    """One that failed or was canceled is queued again, and goes on from its last finished epoch."""
    resumed = await to_thread.run_sync(parts.runs.resume, run.id)
    parts.look()
    return await status(parts.runs, resumed)


@router.delete(
    "/{run_id}",
    summary="Remove a run",
    dependencies=CHANGING,
    status_code=HTTPStatus.NO_CONTENT,
    responses={204: {"description": "Everything that it left is gone."}, **problems(RunNotFound, RunConflict, DependencyUnavailable)},
)
async def delete(run: Known, parts: Given) -> None:
    """Only one that has ended. What was published from it stays."""
    await to_thread.run_sync(parts.runs.delete, run.id)


async def status(runs: Runs, run: Run) -> TrainingRun:
    return TrainingRun.of(await to_thread.run_sync(runs.status, run.id))


def page(runs: Runs, *, before_ms: int, size: int, state: JobState | None) -> RunPage:
    """A page is named by when the last run before it was accepted, which no two runs share."""
    wanted = [run for run in runs.all() if state in (None, run.state) and (before_ms == 0 or run.created_ms < before_ms)]
    shown = tuple(RunItem.of(runs.summary(run)) for run in wanted[:size])
    return RunPage(runs=shown, next_page_token=paging.token(shown[-1].created_ms) if len(wanted) > size else None)


def event(each: news.News) -> ServerSentEvent:
    if isinstance(each.what, RunStatus):
        return ServerSentEvent(event="run", id=str(each.place), data=TrainingRun.of(each.what))
    return ServerSentEvent(event="epoch", id=str(each.place), data=each.what)


def require_record(runs: Runs, run: Run) -> Record:
    found = runs.record(run.id)
    if found is None:
        raise RunConflict("no round has ended yet", state=run.state)
    return found
