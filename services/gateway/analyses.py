"""`/v1/analyses`: post a video, follow it, stop it, remove it. What it came to is in `findings`."""

import logging
import re
import secrets
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from services.gateway import deletion, examples
from services.gateway.acceptance import accept, answering, digest_of, idempotency_of, job_of, nothing_left_on_failure
from services.gateway.choice import require_servable
from services.gateway.deletion import Receipt
from services.gateway.openapi import UPLOAD_BODY
from services.gateway.options import Asked, with_fields
from services.gateway.parts import Given
from services.gateway.problems import UnsupportedMediaType, UploadTooLarge, UploadTooSlow, problems
from services.gateway.schemas import EXAMPLE_ID, Analysis, AnalysisPage
from services.gateway.uploads import announced_bytes, open_body, receive
from services.web import paging
from services.web.errors import DependencyUnavailable, MalformedRequest, ValidationFailed
from services.web.guard import Caller, client, poster
from services.web.naming import one
from services.web.openapi import RETRY_AFTER_HEADER
from services.web.paging import PageToken
from shared.errors import (
    Gone,
    IdempotencyKeyInvalid,
    IdempotencyKeyReused,
    IdempotencyRequestInProgress,
    InsufficientStorage,
    JobNotFound,
    MediaEmpty,
    ModelVersionUnavailable,
    QueueFull,
    QuotaExceeded,
    StateConflict,
)
from shared.idempotency import KEPT_DAYS, LONGEST_KEY
from shared.jobs import FINAL_STATES, Job, JobState

log = logging.getLogger(__name__)

router = APIRouter(prefix="/v1/analyses", tags=["analyses"], dependencies=[Depends(client)])

POLL_AFTER_S: Final = "1"
JOB_ID: Final = re.compile(r"an_[0-9a-f]{32}")
LIST_DEFAULT, LIST_MOST = 50, 500


async def well_formed(analysis_id: Annotated[str, Path(description="The analysis, as in `id`.", examples=[EXAMPLE_ID])]) -> str:
    """An id that could be one of ours; any other is as unknown as one that was never given out."""
    if not JOB_ID.fullmatch(analysis_id):
        raise JobNotFound
    return analysis_id


AnalysisId = Annotated[str, Depends(well_formed)]
Client = Annotated[Caller, Depends(client)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        description=f"Any text of up to {LONGEST_KEY} characters, new for every video, such as a UUID. The same request with the same key "
        f"is answered as the first one was, without a second analysis, for {KEPT_DAYS} days: with one, a request that was not answered "
        "can be sent again without a thought.",
        examples=["0b8f2f0e-6d1c-4a53-9f0e-8b5f0a4f7c11"],
        # Only said here: `key_digest` sees to it, with an error of its own.
        json_schema_extra={"minLength": 1, "maxLength": LONGEST_KEY},
    ),
]
State = Annotated[JobState | None, Query(description="Only analyses in this state.")]
ListSize = Annotated[int, Query(ge=0, description=f"Analyses at most. 0: {LIST_DEFAULT}; more than {LIST_MOST}: {LIST_MOST}.")]


@router.post(
    "",
    summary="Post a video",
    dependencies=[Depends(poster)],
    status_code=HTTPStatus.ACCEPTED,
    openapi_extra={"requestBody": UPLOAD_BODY},
    responses={
        202: {
            "description": "The video is safely stored and queued.",
            "headers": {
                "Location": {
                    "description": "The analysis.",
                    "schema": {"type": "string", "examples": [f"/v1/analyses/{EXAMPLE_ID}"]},
                },
                "Retry-After": RETRY_AFTER_HEADER,
            },
            **examples.shown(Analysis.of(examples.QUEUED)),
        },
        **problems(
            MalformedRequest,
            IdempotencyKeyInvalid,
            ModelVersionUnavailable,
            UploadTooSlow,
            IdempotencyRequestInProgress,
            UploadTooLarge,
            UnsupportedMediaType,
            ValidationFailed,
            MediaEmpty,
            IdempotencyKeyReused,
            QuotaExceeded,
            DependencyUnavailable,
            QueueFull,
            InsufficientStorage,
        ),
    },
)
async def create(
    request: Request,
    response: Response,
    parts: Given,
    caller: Annotated[Caller, Depends(poster)],
    options: Asked,
    idempotency_key: IdempotencyKey = None,
) -> Analysis:
    """Send the video as the body, or as the part `video` of a form. A large one over a line that may break: see `/v1/uploads`.

    Options are query parameters, which are checked before the body is read, or fields of the form.
    """
    body = open_body(request.headers, max_bytes=parts.limits.max_bytes)
    key = digest_of(caller.tenant, idempotency_key)
    # Before the body: nobody should send 2 GiB to learn that there is no queue, no room in it, or no such model.
    await parts.queue.require_room(caller.tenant, size_bytes=announced_bytes(request.headers))
    await require_servable(options.model_version, models=parts.models, triton=parts.triton)
    job_id = f"an_{secrets.token_hex(16)}"
    async with answering(parts.queue, key):
        async with nothing_left_on_failure(parts.videos, job_id):
            with parts.metrics.uploading():
                received = await receive(request, body, parts.videos.incoming(job_id), limits=parts.limits)
            wanted = with_fields(options, received.fields)
            if wanted.model_version != options.model_version:
                await require_servable(wanted.model_version, models=parts.models, triton=parts.triton)
        received_job = job_of(
            job_id,
            tenant=caller.tenant,
            size_bytes=received.size_bytes,
            sha256=received.sha256,
            options=wanted,
            request_id=request.state.request_id,
            traceparent=request.state.traceparent,
        )
        job = await accept(received_job, idempotency_of(received_job, key), videos=parts.videos, queue=parts.queue)
    if job is received_job:
        parts.metrics.uploaded(job.size_bytes)
        log.info("accepted", extra={"job_id": job.id, "size_bytes": job.size_bytes})
    response.headers["Location"] = f"/v1/analyses/{job.id}"
    return show(job, response)


@router.get(
    "",
    summary="List analyses",
    responses={
        200: examples.shown(AnalysisPage(analyses=(Analysis.of(examples.SUCCEEDED),))),
        **problems(ValidationFailed, DependencyUnavailable),
    },
)
async def list_all(
    parts: Given, caller: Client, page_size: ListSize = 0, page_token: PageToken = None, state: State = None
) -> AnalysisPage:
    """Newest first."""
    size = paging.page_size(page_size, default=LIST_DEFAULT, most=LIST_MOST)
    try:
        page = await parts.queue.list(tenant=caller.tenant, state=state, limit=size, cursor=page_token)
    except ValueError:
        raise paging.invalid_token() from None
    return AnalysisPage(analyses=tuple(map(Analysis.of, page.jobs)), next_page_token=page.next_cursor)


@router.get(
    one("analysis_id"),
    summary="How an analysis is doing",
    responses={
        200: {"headers": {"Retry-After": RETRY_AFTER_HEADER}, **examples.shown(Analysis.of(examples.SUCCEEDED))},
        **problems(JobNotFound, Gone, DependencyUnavailable),
    },
)
async def read(analysis_id: AnalysisId, response: Response, parts: Given, caller: Client) -> Analysis:
    """Its state, progress, timings and, if it failed, why. While it is not final, `Retry-After` says when to ask again."""
    return show(await parts.queue.get(analysis_id, tenant=caller.tenant), response)


@router.post(
    "/{analysis_id}:cancel",
    summary="Stop an analysis",
    responses={
        200: examples.shown(Analysis.of(examples.CANCELED)),
        **problems(JobNotFound, StateConflict, Gone, DependencyUnavailable),
    },
)
async def cancel(analysis_id: AnalysisId, response: Response, parts: Given, caller: Client) -> Analysis:
    """A queued one is canceled at once; a running one stops within seconds, and says `cancel_requested` until then."""
    return show(await parts.queue.cancel(analysis_id, tenant=caller.tenant), response)


@router.delete(
    one("analysis_id"),
    summary="Remove an analysis",
    responses={200: examples.shown(deletion.EXAMPLE), **problems(JobNotFound, Gone, DependencyUnavailable)},
)
async def delete(analysis_id: AnalysisId, parts: Given, caller: Client) -> Receipt:
    """The video, the result and the record are gone before the answer, which says what they were; a running analysis stops.

    For a week its id is answered with `410`; then it is unknown.
    """
    return await deletion.remove(analysis_id, caller.tenant, videos=parts.videos, queue=parts.queue, results=parts.results)


def show(job: Job, response: Response) -> Analysis:
    if job.state not in FINAL_STATES:
        response.headers["Retry-After"] = POLL_AFTER_S
    return Analysis.of(job)
