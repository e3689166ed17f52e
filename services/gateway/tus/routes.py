"""`/v1/uploads`: a video in as many requests as the line takes, by the tus protocol 1.0."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Any, Final

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Path, Request, Response

from services.gateway.choice import require_servable
from services.gateway.parts import Given, Parts
from services.gateway.problems import UnsupportedMediaType, UploadTooLarge, UploadTooSlow, problems
from services.gateway.schemas import EXAMPLE_UPLOAD_ID, ResumableUpload, analysis_path, upload_path
from services.gateway.tus.append import append
from services.gateway.tus.errors import (
    MismatchingUploadOffset,
    TusVersionUnsupported,
    UploadBusy,
    UploadChecksumMismatch,
    UploadNotFound,
)
from services.gateway.tus.finish import holding
from services.gateway.tus.headers import (
    ANALYSIS,
    CHECKSUMS,
    EXTENSIONS,
    MEDIA_TYPE,
    PATHS,
    VERSION,
    checksum_of,
    http_date,
    metadata_header,
    metadata_of,
    options_of,
)
from services.gateway.tus.record import Upload, new_upload
from services.gateway.uploads import announced_bytes, too_large
from services.web.errors import DependencyUnavailable, MalformedRequest, ValidationFailed
from services.web.guard import Caller, client, poster
from shared.errors import InsufficientStorage, MediaEmpty, MienError, ModelVersionUnavailable, QueueFull, QuotaExceeded

UPLOAD_ID: Final = re.compile(r"up_[0-9a-f]{32}")
ROUTER: Final = APIRouter(prefix=PATHS, tags=["uploads"], dependencies=[Depends(client)])


# Whether it must be there differs by method, and a missing one is answered with 412: it is described by `tus_resumable`.
TusResumable = Annotated[str | None, Header(include_in_schema=False)]


async def well_formed(upload_id: Annotated[str, Path(description="The upload, as in `id`.", examples=[EXAMPLE_UPLOAD_ID])]) -> str:
    """An id that could be one of ours; any other is as unknown as one that was never given out."""
    if not UPLOAD_ID.fullmatch(upload_id):
        raise UploadNotFound
    return upload_id


async def speaks_tus(request: Request, tus_resumable: TusResumable = None) -> None:
    """Section "Tus-Resumable". Only GET, which is no request of the protocol, may leave it out."""
    asked = (VERSION if request.method == "GET" else "") if tus_resumable is None else tus_resumable
    if asked != VERSION:
        raise TusVersionUnsupported(f"Tus-Resumable is {asked[:20] or 'none'}, not {VERSION}")


UploadId = Annotated[str, Depends(well_formed)]
Client = Annotated[Caller, Depends(client)]
UploadLength = Annotated[int, Header(ge=0, description="Bytes of the whole video.", examples=[44_040_192])]
UploadOffset = Annotated[int, Header(ge=0, description="Where this request goes on: the offset that HEAD names.", examples=[0])]
UploadMetadata = Annotated[
    str | None,
    Header(
        description="The options of the analysis, named as for `POST /v1/analyses`, each value in Base64. "
        "Names of files and their types, which many clients add, are dropped.",
        examples=["sample_fps NA==,max_faces NQ=="],
    ),
]
UploadChecksum = Annotated[
    str | None,
    Header(
        description=f"{' or '.join(CHECKSUMS)}, and the digest of this request's body in Base64. If it does not fit, or the body is cut "
        "off, none of the body is kept.",
        examples=["sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="],
    ),
]


def tus_resumable(*, required: bool) -> dict[str, Any]:
    """For a route's `openapi_extra`."""
    said = {"description": f"{VERSION}, the version that the client speaks.", "schema": {"type": "string", "enum": [VERSION]}}
    return {"parameters": [{"name": "tus-resumable", "in": "header", "required": required, **said, "example": VERSION}]}


BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "description": "Bytes of the video, from the offset on: any number of them.",
        "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
}
APPEND_ERRORS: Final = (MalformedRequest, UploadTooSlow, UploadTooLarge, UnsupportedMediaType, UploadChecksumMismatch, ValidationFailed)
FINISH_ERRORS: Final = (QuotaExceeded, DependencyUnavailable, QueueFull, InsufficientStorage)


def headers(*names: str) -> dict[str, Any]:
    """For a route's `responses`: those headers of the protocol that it answers with."""
    return {"headers": {name: HEADERS[name] for name in names}}


HEADERS: Final[dict[str, dict[str, Any]]] = {
    "Location": {"description": "The upload.", "schema": {"type": "string", "examples": [f"{PATHS}/{EXAMPLE_UPLOAD_ID}"]}},
    "Upload-Offset": {"description": "Bytes that are on the disk.", "schema": {"type": "integer"}},
    "Upload-Length": {"description": "Bytes of the whole video.", "schema": {"type": "integer"}},
    "Upload-Expires": {"description": "When the upload is removed.", "schema": {"type": "string"}},
    "Upload-Metadata": {"description": "The options, as they were given.", "schema": {"type": "string"}},
    ANALYSIS: {"description": "The analysis that the upload has become; from the last byte on.", "schema": {"type": "string"}},
    "Tus-Version": {"description": "The versions that are spoken.", "schema": {"type": "string"}},
    "Tus-Extension": {"description": "The extensions that are.", "schema": {"type": "string"}},
    "Tus-Max-Size": {"description": "Bytes of the largest video that is taken.", "schema": {"type": "integer"}},
    "Tus-Checksum-Algorithm": {"description": "The algorithms that are known.", "schema": {"type": "string"}},
}


@ROUTER.options(
    "",
    summary="What the server can do",
    status_code=HTTPStatus.NO_CONTENT,
    responses={204: headers("Tus-Version", "Tus-Extension", "Tus-Max-Size", "Tus-Checksum-Algorithm"), **problems()},
)
async def capabilities(response: Response, parts: Given) -> None:
    """Version, extensions and limits of the tus protocol here."""
    response.headers["Tus-Extension"] = EXTENSIONS
    response.headers["Tus-Max-Size"] = str(parts.limits.max_bytes)
    response.headers["Tus-Checksum-Algorithm"] = ",".join(CHECKSUMS)


@ROUTER.post(
    "",
    summary="Begin an upload",
    status_code=HTTPStatus.CREATED,
    dependencies=[Depends(speaks_tus)],
    openapi_extra={**BODY, **tus_resumable(required=True)},
    responses={
        201: {**headers("Location", "Upload-Offset", "Upload-Expires", ANALYSIS), **ResumableUpload.shown()},
        **problems(*APPEND_ERRORS, TusVersionUnsupported, ModelVersionUnavailable, MediaEmpty, *FINISH_ERRORS),
    },
)
async def create(
    request: Request,
    response: Response,
    parts: Given,
    caller: Annotated[Caller, Depends(poster)],
    upload_length: UploadLength,
    upload_metadata: UploadMetadata = None,
    upload_checksum: UploadChecksum = None,
) -> ResumableUpload:
    """Say how large the video will be, and send the first of its bytes if you like. Go on with PATCH at the address in `Location`.

    There is a day for it. What is asked of the analysis is checked now; with the last byte it is queued.
    """
    if not upload_length:
        raise MediaEmpty
    if upload_length > parts.limits.max_bytes:
        raise too_large(parts.limits.max_bytes)
    metadata = metadata_of(upload_metadata)
    await require_servable(options_of(metadata).model_version, models=parts.models, triton=parts.triton)
    await parts.queue.require_room(caller.tenant, size_bytes=upload_length)
    upload = new_upload(
        tenant=caller.tenant,
        length=upload_length,
        metadata=metadata,
        request_id=request.state.request_id,
        traceparent=request.state.traceparent,
    )
    await to_thread.run_sync(parts.uploads.create, upload)
    async with removed_on_failure(parts, upload):
        if has_body(request):
            upload = await take(request, parts, upload, offset=0, checksum=upload_checksum)
    response.headers["Location"] = upload_path(upload.id)
    return await told(upload, response, parts)


@ROUTER.get(
    "/{upload_id}",
    summary="How far an upload is",
    dependencies=[Depends(speaks_tus)],
    openapi_extra=tus_resumable(required=False),
    responses={
        200: {**headers("Upload-Offset", "Upload-Length", "Upload-Expires", "Upload-Metadata", ANALYSIS), **ResumableUpload.shown()},
        **problems(UploadNotFound, TusVersionUnsupported, DependencyUnavailable),
    },
)
async def read(upload_id: UploadId, response: Response, parts: Given, caller: Client) -> ResumableUpload:
    """HEAD says the same in headers, as the protocol has it. Go on from the offset; if nothing is missing, `analysis` is there soon."""
    upload = await to_thread.run_sync(parts.uploads.get, upload_id, caller.tenant)
    return await told(await finished_if_possible(parts, upload), response, parts)


@ROUTER.patch(
    "/{upload_id}",
    summary="Send more of an upload",
    status_code=HTTPStatus.NO_CONTENT,
    dependencies=[Depends(speaks_tus)],
    openapi_extra={**BODY, **tus_resumable(required=True)},
    responses={
        204: {"description": "All of it is on the disk.", **headers("Upload-Offset", "Upload-Expires", ANALYSIS)},
        **problems(*APPEND_ERRORS, TusVersionUnsupported, UploadNotFound, MismatchingUploadOffset, UploadBusy, *FINISH_ERRORS),
    },
)
async def send(
    upload_id: UploadId,
    request: Request,
    response: Response,
    parts: Given,
    caller: Client,
    upload_offset: UploadOffset,
    upload_checksum: UploadChecksum = None,
) -> None:
    """Whatever arrives counts, also when the line breaks: ask with HEAD how much it was, and go on from there.

    With the last byte the upload becomes an analysis, whose address is in `Mien-Analysis`. If that answer is lost, HEAD has it, too.
    """
    async with holding(parts.uploads, upload_id):
        upload = await to_thread.run_sync(parts.uploads.get, upload_id, caller.tenant)
        upload = await take(request, parts, upload, offset=upload_offset, checksum=upload_checksum)
    await told(upload, response, parts)


@ROUTER.delete(
    "/{upload_id}",
    summary="Give an upload up",
    status_code=HTTPStatus.NO_CONTENT,
    dependencies=[Depends(speaks_tus)],
    openapi_extra=tus_resumable(required=True),
    responses={
        204: {"description": "Its bytes are gone.", **headers(ANALYSIS)},
        **problems(UploadNotFound, UploadBusy, TusVersionUnsupported, DependencyUnavailable),
    },
)
async def give_up(upload_id: UploadId, response: Response, parts: Given, caller: Client) -> None:
    """The bytes are deleted before the answer. An analysis that the upload has become, which the last bytes may have done just before,
    stays: its address is in `Mien-Analysis`, where it is deleted by itself."""
    async with holding(parts.uploads, upload_id):
        upload = await to_thread.run_sync(parts.uploads.get, upload_id, caller.tenant)
        analysis = await to_thread.run_sync(parts.finisher.accepted, upload)
        await to_thread.run_sync(parts.uploads.delete, upload.id)
    if analysis:
        response.headers[ANALYSIS] = analysis_path(analysis.id)


async def take(request: Request, parts: Parts, upload: Upload, *, offset: int, checksum: str | None) -> Upload:
    """Add the body to an upload that is held, and finish it if that was the last of it."""
    kind = request.headers.get("content-type", "")
    if kind != MEDIA_TYPE or request.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMediaType(f"the Content-Type of an upload is {MEDIA_TYPE}", accepted=(MEDIA_TYPE,))
    promised = checksum_of(checksum)
    expected = await to_thread.run_sync(parts.uploads.offset, upload)
    if offset != expected:
        raise MismatchingUploadOffset(f"it goes on at {expected}", expected_offset=expected, provided_offset=offset)
    if offset + announced_bytes(request.headers) > upload.length:
        raise too_large(upload.length)
    if offset < upload.length:
        await append(request, upload, uploads=parts.uploads, offset=offset, checksum=promised, limits=parts.limits)
    return await finished(parts, upload)


async def finished(parts: Parts, upload: Upload) -> Upload:
    """Whoever calls holds it."""
    after = await parts.finisher.finish(upload)
    if after.finished and not upload.finished:
        parts.metrics.uploaded(after.length)
    return after


async def finished_if_possible(parts: Parts, upload: Upload) -> Upload:
    """One whose last byte arrived when something else was amiss. If it still is, the offset is the answer all the same."""
    if upload.finished or await to_thread.run_sync(parts.uploads.offset, upload) < upload.length:
        return upload
    try:
        async with holding(parts.uploads, upload.id):
            return await finished(parts, await to_thread.run_sync(parts.uploads.get, upload.id, upload.tenant))
    except UploadNotFound:
        raise
    except MienError:
        return upload


async def told(upload: Upload, response: Response, parts: Parts) -> ResumableUpload:
    """The state of an upload, which the protocol wants in headers."""
    offset = await to_thread.run_sync(parts.uploads.offset, upload)
    analysis = analysis_path(upload.job_id) if upload.finished else None
    response.headers["Upload-Offset"] = str(offset)
    response.headers["Upload-Length"] = str(upload.length)
    response.headers["Upload-Expires"] = http_date(upload.expires_ms)
    if upload.metadata:
        response.headers["Upload-Metadata"] = metadata_header(upload.metadata)
    if analysis:
        response.headers[ANALYSIS] = analysis
    return ResumableUpload(id=upload.id, offset=offset, length=upload.length, expires_ms=upload.expires_ms, analysis=analysis)


def has_body(request: Request) -> bool:
    return "transfer-encoding" in request.headers or announced_bytes(request.headers) > 0


@asynccontextmanager
async def removed_on_failure(parts: Parts, upload: Upload) -> AsyncIterator[None]:
    """Around the request that creates an upload: without its answer, nobody learns the address."""
    try:
        async with holding(parts.uploads, upload.id):
            yield
    except BaseException:
        parts.uploads.delete(upload.id)
        raise
