"""`/v1/analyses/{analysis_id}/results` and `/windows`: what was seen, as a whole or as it is found."""

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Response

from services.gateway import examples, pages
from services.gateway.analyses import POLL_AFTER_S, AnalysisId, Client
from services.gateway.parts import Given
from services.gateway.problems import problems
from services.gateway.schemas import ResultPage, WindowPage
from services.web import paging
from services.web.errors import DependencyUnavailable, ValidationFailed
from services.web.guard import client
from services.web.openapi import RETRY_AFTER_HEADER
from services.web.paging import PageToken
from shared.errors import Gone, JobNotFound, ResultGone, ResultNotReady, ResultUnreadable, StateConflict
from shared.jobs import FINAL_STATES, Job, JobState

router = APIRouter(prefix="/v1/analyses", tags=["analyses"], dependencies=[Depends(client)])

SIZE_DEFAULT, SIZE_MOST = 500, 1000

Size = Annotated[int, Query(ge=0, description=f"Windows at most, over all tracks. 0: {SIZE_DEFAULT}; more than {SIZE_MOST}: {SIZE_MOST}.")]


@router.get(
    "/{analysis_id}/results",
    summary="Read the result",
    responses={
        200: examples.shown(examples.RESULT),
        **problems(JobNotFound, StateConflict, ResultNotReady, Gone, ResultGone, ResultUnreadable, ValidationFailed, DependencyUnavailable),
    },
)
async def results(analysis_id: AnalysisId, parts: Given, caller: Client, page_size: Size = 0, page_token: PageToken = None) -> ResultPage:
    """The tracks with their timelines, a page of windows at a time and never more than 1 MiB."""
    start = paging.place_of(page_token)
    job, attempt = await parts.queue.get_with_result(analysis_id, tenant=caller.tenant)
    require_result(job)
    size = paging.page_size(page_size, default=SIZE_DEFAULT, most=SIZE_MOST)
    return await to_thread.run_sync(lambda: pages.cut(parts.results.read(analysis_id, attempt), start=start, size=size))


@router.get(
    "/{analysis_id}/windows",
    summary="Read what is judged so far",
    responses={
        200: {"headers": {"Retry-After": RETRY_AFTER_HEADER}, **examples.shown(examples.WINDOWS)},
        **problems(JobNotFound, Gone, ResultGone, ResultUnreadable, ValidationFailed, DependencyUnavailable),
    },
)
async def windows(
    analysis_id: AnalysisId, response: Response, parts: Given, caller: Client, page_size: Size = 0, page_token: PageToken = None
) -> WindowPage:
    """The windows in the order in which they were finished: while the analysis runs, and afterwards.

    Until it is final there is always a `next_page_token`, from which to go on when more are finished, and `Retry-After` says when to
    look. A token outlives the worker: when the analysis is begun anew, the pages from there on are empty until it has come as far.
    """
    first = paging.place_of(page_token)
    size = paging.page_size(page_size, default=SIZE_DEFAULT, most=SIZE_MOST)
    job, attempt = await parts.queue.get_with_result(analysis_id, tenant=caller.tenant)
    if job.state not in FINAL_STATES:
        response.headers["Retry-After"] = POLL_AFTER_S
    return await to_thread.run_sync(lambda: parts.windows.page(job, attempt, first=first, most=size))


def require_result(job: Job) -> None:
    """Raises ResultNotReady while there may still be one, StateConflict when there never will be."""
    if job.state not in FINAL_STATES:
        raise ResultNotReady(f"the analysis is {job.state}", state=job.state)
    if job.state is not JobState.SUCCEEDED:
        raise StateConflict(
            f"the analysis {'has failed' if job.failure else 'was canceled'}, so it has no result", state=job.state, failure=job.failure
        )
