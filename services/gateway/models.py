"""`/v1/models`: the releases that were published, which of them judges, and what is known about each."""

import asyncio
import re
from collections.abc import Mapping
from http import HTTPStatus
from itertools import islice
from typing import Annotated, Final, NamedTuple, get_args

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Path, Query, Response

from services.gateway import examples
from services.gateway.model_schemas import Model, ModelPage, ModelSummary
from services.gateway.parts import Given
from services.gateway.problems import ModelCardMissing, problems
from services.web import paging
from services.web.errors import DependencyUnavailable, ValidationFailed
from services.web.guard import anybody
from services.web.paging import PageToken
from shared.errors import ModelContractMismatch, ModelDigestMismatch, ModelVersionUnavailable, ReleaseUnsigned
from shared.queue import Alias, GatewayQueue

router = APIRouter(prefix="/v1/models", tags=["models"], dependencies=[Depends(anybody)])

VERSION: Final = re.compile(r"[1-9][0-9]{0,5}")
ALIASES: Final[Mapping[str, Alias]] = {name: name for name in get_args(Alias)}
LIST_DEFAULT, LIST_MOST = 50, 500
MARKDOWN: Final = "text/markdown"

FOR_GOOD: Final = "public, max-age=31536000, immutable"
"""A release never changes, so neither does its card."""
ASK_AGAIN: Final = "no-cache"
"""What an alias names may change at any moment; whether it has is a question that the ETag answers."""

ListSize = Annotated[int, Query(ge=0, description=f"Models at most. 0: {LIST_DEFAULT}; more than {LIST_MOST}: {LIST_MOST}.")]
IfNoneMatch = Annotated[str | None, Header(description="The `ETag` of a card that is at hand already.")]


class Named(NamedTuple):
    """A release, and whether it was asked for by what it is used for."""

    version: int
    by_alias: bool


async def named(
    version: Annotated[
        str, Path(description="The model's version, or its alias: `champion`, `canary` or `shadow`.", examples=["champion"])
    ],
    parts: Given,
) -> Named:
    """Raises ModelVersionUnavailable for an alias that no release has, and for what could be no version."""
    if VERSION.fullmatch(version):
        return Named(int(version), by_alias=False)
    if version not in ALIASES:
        raise ModelVersionUnavailable
    current = await parts.queue.alias(ALIASES[version])
    if current is None:
        raise ModelVersionUnavailable(f"no release is {version}")
    return Named(current, by_alias=True)


Which = Annotated[Named, Depends(named)]


@router.get(
    "",
    summary="List models",
    responses={
        200: examples.shown(ModelPage(models=(ModelSummary.of(examples.MODEL),))),
        **problems(ValidationFailed, DependencyUnavailable),
    },
)
async def list_all(parts: Given, page_size: ListSize = 0, page_token: PageToken = None) -> ModelPage:
    """The published releases, newest first.

    One that is broken, or that no trusted key has signed, is left out; asked for by its version, it says so.
    """
    size = paging.page_size(page_size, default=LIST_DEFAULT, most=LIST_MOST)
    below = paging.place_of(page_token) or None
    aliases = await all_aliases(parts.queue)
    found = await to_thread.run_sync(lambda: list(islice(parts.models.newest(below=below), size + 1)))
    following = paging.token(found[size - 1].release.version) if len(found) > size else None
    models = (Model.of(one, aliases=aliases) for one in found[:size])
    return ModelPage(models=tuple(map(ModelSummary.of, models)), next_page_token=following)


@router.get(
    "/{version}",
    summary="What is known about a model",
    responses={
        200: examples.shown(examples.MODEL),
        **problems(ModelVersionUnavailable, ModelContractMismatch, ReleaseUnsigned, DependencyUnavailable),
    },
)
async def read(which: Which, parts: Given) -> Model:
    """Its design, how and on what it was trained, how it was measured, its known limits, and the digest of each of its files."""
    aliases = await all_aliases(parts.queue)
    return Model.of(await to_thread.run_sync(parts.models.read, which.version), aliases=aliases)


@router.get(
    "/{version}/card",
    summary="Read a model's card",
    response_class=Response,
    responses={
        200: {
            "description": "The model card.",
            "headers": {
                "ETag": {"description": "Names this card's text.", "schema": {"type": "string"}},
                "Cache-Control": {"description": f"`{FOR_GOOD}` by version, `{ASK_AGAIN}` by alias.", "schema": {"type": "string"}},
            },
            "content": {MARKDOWN: {"schema": {"type": "string"}, "example": "# Model card: mien_000001\n"}},
        },
        304: {"description": "The card is still the one that `If-None-Match` names."},
        **problems(
            ModelVersionUnavailable, ModelCardMissing, ModelContractMismatch, ModelDigestMismatch, ReleaseUnsigned, DependencyUnavailable
        ),
    },
)
async def card(which: Which, parts: Given, if_none_match: IfNoneMatch = None) -> Response:
    """Data, licences, figures, known failures, intended and forbidden uses, for people, in Markdown."""
    found = await to_thread.run_sync(parts.models.card, which.version)
    headers = {"ETag": f'"{found.sha256}"', "Cache-Control": ASK_AGAIN if which.by_alias else FOR_GOOD}
    if headers["ETag"] in etags(if_none_match or ""):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(found.markdown, media_type=MARKDOWN, headers=headers)


async def all_aliases(queue: GatewayQueue) -> dict[Alias, int | None]:
    """The version of the release with each alias."""
    return dict(zip(ALIASES.values(), await asyncio.gather(*map(queue.alias, ALIASES.values())), strict=True))


def etags(if_none_match: str) -> set[str]:
    """Those of the header, weak ones like strong ones (RFC 9110, 13.1.2)."""
    return {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
