"""`/v1/releases`, `/v1/publications` and `/v1/aliases`: from a candidate to the champion, and back."""

import asyncio
import logging
from http import HTTPStatus
from typing import Annotated, Final, get_args

from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Query, Response

from services.training.parts import Given, Parts
from services.training.problems import problems
from services.training.schemas import (
    EXAMPLE_PUBLICATION,
    Champion,
    PublicationRequest,
    PublicationStatus,
    PublishedRelease,
    ReleaseItem,
    ReleaseList,
)
from services.web.errors import BodyTooLarge, BodyTooSlow, DependencyUnavailable, ValidationFailed
from services.web.guard import CHANGING, reader
from shared import releases
from shared.errors import (
    InferenceError,
    InferenceInvalidOutput,
    InferenceRejected,
    InsufficientStorage,
    KeyUnusable,
    ModelContractMismatch,
    ModelDigestMismatch,
    ModelVersionUnavailable,
    NothingToRollBack,
    PublicationConflict,
    PublicationNotFound,
    PublicationOver,
    QueueUnavailable,
    ReleaseUnsigned,
    RunConflict,
    RunNotFound,
)
from shared.jobs import FINAL_STATES
from shared.queue import Alias
from shared.releases import Release
from shared.videos import storage_errors
from training.comparison import Comparison, compare

log = logging.getLogger(__name__)

router = APIRouter(prefix="/v1", tags=["releases"], dependencies=[Depends(reader)])

ALIASES: Final[tuple[Alias, ...]] = get_args(Alias)
POLL_AFTER_S: Final = "2"
UNSERVABLE: Final = (ModelContractMismatch, ModelDigestMismatch, ReleaseUnsigned, KeyUnusable)
UNLOADABLE: Final = (InferenceError, InferenceRejected, InferenceInvalidOutput)

Version = Annotated[int, Path(ge=1, description="Of a published release.", examples=[7])]
Compared = Annotated[int, Query(ge=1, description="Version of a published release.", examples=[7])]
PublicationId = Annotated[str, Path(description="The publication, as in `id`.", examples=[EXAMPLE_PUBLICATION])]


@router.get("/releases", summary="List releases", responses=problems(DependencyUnavailable))
async def list_all(parts: Given) -> ReleaseList:
    """Newest first. One whose `release.json` cannot be read is left out."""
    held = await aliases(parts)
    found = await to_thread.run_sync(readable, parts)
    return ReleaseList(releases=tuple(ReleaseItem.of(release, used_as(held, release.version)) for release in found))


@router.get(
    "/releases:compare",
    summary="Compare two releases",
    responses=problems(ModelVersionUnavailable, ModelContractMismatch, ValidationFailed),
)
async def side_by_side(parts: Given, left: Compared, right: Compared) -> Comparison:
    """Every figure of both side by side, per set and class, and what they were trained with otherwise."""
    return await to_thread.run_sync(lambda: compare(published(parts, left), published(parts, right)))


@router.get(
    "/releases/{version}",
    summary="Read a release",
    responses=problems(ModelVersionUnavailable, ModelContractMismatch, ValidationFailed, DependencyUnavailable),
)
async def read(version: Version, parts: Given) -> PublishedRelease:
    """All of its `release.json`: how it was trained, on what, and what it scores."""
    held = await aliases(parts)
    release = await to_thread.run_sync(published, parts, version)
    return PublishedRelease.shown(release, used_as(held, version))


@router.post(
    "/releases",
    summary="Publish a candidate",
    status_code=HTTPStatus.ACCEPTED,
    dependencies=CHANGING,
    responses={
        202: {
            "description": "The candidate is going to be measured against the champion, and published if it is good enough.",
            "headers": {
                "Location": {
                    "description": "The publication.",
                    "schema": {"type": "string", "examples": [f"/v1/publications/{EXAMPLE_PUBLICATION}"]},
                }
            },
        },
        **problems(RunNotFound, RunConflict, ValidationFailed, BodyTooSlow, BodyTooLarge, DependencyUnavailable, InsufficientStorage),
    },
)
async def publish(wanted: PublicationRequest, response: Response, parts: Given) -> PublicationStatus:
    """Takes about a minute: gate, export, signature, warm-up, alias. A candidate that is refused changes nothing."""

    def accept() -> PublicationStatus:
        parts.runs.candidate(wanted.run)
        return PublicationStatus.of(parts.publications.accept(wanted.run, promote=wanted.promote))

    publication = await to_thread.run_sync(accept)
    log.info("accepted", extra={"entry": publication.id})
    parts.look()
    response.headers["Location"] = publication.links.publication
    return publication


@router.get(
    "/publications/{publication_id}", summary="How a publication is doing", responses=problems(PublicationNotFound, DependencyUnavailable)
)
async def read_publication(publication_id: PublicationId, response: Response, parts: Given) -> PublicationStatus:
    """Its state, the release that it became, or why it was refused."""
    publication = await to_thread.run_sync(parts.publications.get, publication_id)
    if publication.state not in FINAL_STATES:
        response.headers["Retry-After"] = POLL_AFTER_S
    return PublicationStatus.of(publication)


@router.post(
    "/publications/{publication_id}:cancel",
    summary="Stop a publication",
    dependencies=CHANGING,
    responses=problems(PublicationNotFound, PublicationOver, DependencyUnavailable),
)
async def cancel_publication(publication_id: PublicationId, parts: Given) -> PublicationStatus:
    """A queued one is canceled at once; one that is measured, within seconds, and nothing has changed. Once the release is given its name
    (`committed`) it is finished instead; `promote` and `rollback` choose who judges.
    """
    return PublicationStatus.of(await to_thread.run_sync(parts.publications.cancel, publication_id))


@router.post(
    "/releases/{version}:promote",
    summary="Make a release champion",
    dependencies=CHANGING,
    responses=problems(ModelVersionUnavailable, *UNSERVABLE, *UNLOADABLE, PublicationConflict, ValidationFailed, DependencyUnavailable),
)
async def promote(version: Version, parts: Given) -> Champion:
    """Loads and warms it first; the answer comes when it judges. It is not measured again."""
    return Champion(version=(await parts.commands.run("promote", str(version)))["version"])


@router.post(
    "/aliases/champion:rollback",
    summary="Take the last promotion back",
    dependencies=CHANGING,
    responses=problems(NothingToRollBack, ModelVersionUnavailable, *UNSERVABLE, *UNLOADABLE, DependencyUnavailable),
)
async def rollback(parts: Given) -> Champion:
    """The champion before this one judges again when the answer comes."""
    return Champion(version=(await parts.commands.run("rollback"))["version"])


def readable(parts: Parts) -> list[Release]:
    with storage_errors():
        versions = reversed(releases.published(parts.models))
    return [release for version in versions if (release := published_or_none(parts, version)) is not None]


def published_or_none(parts: Parts, version: int) -> Release | None:
    try:
        return published(parts, version)
    except (ModelVersionUnavailable, ModelContractMismatch):
        return None


def published(parts: Parts, version: int) -> Release:
    """Raises ModelVersionUnavailable, and ModelContractMismatch when it is not ours."""
    with storage_errors():
        return releases.read(parts.models / releases.folder_name(version) / releases.MANIFEST)


async def aliases(parts: Parts) -> dict[Alias, int | None] | None:
    """Which version has which alias; None while Redis does not answer, which is no reason to hide the releases."""
    try:
        versions = await asyncio.gather(*(parts.aliases.alias(name) for name in ALIASES))
    except QueueUnavailable:
        return None
    return dict(zip(ALIASES, versions, strict=True))


def used_as(held: dict[Alias, int | None] | None, version: int) -> tuple[str, ...] | None:
    return None if held is None else tuple(name for name, holder in held.items() if holder == version)
