"""`/problems`: what each code means, at the address that every problem's `type` names."""

from collections.abc import Iterable, Iterator
from html import escape
from http import HTTPStatus
from inspect import cleandoc
from typing import Annotated, Final

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse

from services.gateway.openapi import problems
from services.gateway.problems import STATUS, NotFound
from shared.errors import AttemptsExhausted, InferenceError, InternalError, MediaError, MienError, ReleaseError, StorageError

router = APIRouter(prefix="/problems", tags=["problems"], default_response_class=HTMLResponse)

FAILURES: Final = (MediaError, InferenceError, ReleaseError, StorageError, AttemptsExhausted, InternalError)
"""What a job may fail with: these, and every kind of them."""

PAGE: Final = "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><h1>{title}</h1>{body}</html>"


def with_kinds(error: type[MienError]) -> Iterator[type[MienError]]:
    yield error
    for kind in error.__subclasses__():
        yield from with_kinds(kind)


IN_JOBS: Final = {kind.code(): kind for error in FAILURES for kind in with_kinds(error)}
ALL: Final = {**IN_JOBS, **{kind.code(): kind for kind in STATUS}}


@router.get("", summary="Every problem code", responses=problems())
async def index() -> HTMLResponse:
    """A page that lists them all: those of responses, and those of failed analyses."""
    return page("Problems", (f"<p><a href='/problems/{code}'>{code}</a>: {escape(kind.title())}</p>" for code, kind in sorted(ALL.items())))


@router.get("/{code}", summary="What a problem code means", responses=problems(NotFound))
async def explain(code: Annotated[str, Path(description="A problem's `code`.", examples=["job-not-found"])]) -> HTMLResponse:
    """A page about one code."""
    if code not in ALL:
        raise NotFound
    return page(code, (f"<p>{escape(line)}</p>" for line in meaning(ALL[code])))


def meaning(kind: type[MienError]) -> Iterator[str]:
    title, _, more = cleandoc(kind.__doc__ or "").partition("\n")
    yield title
    if more:
        yield more.strip()
    if kind in STATUS:
        yield f"HTTP status: {STATUS[kind].value} {HTTPStatus(STATUS[kind]).phrase}."
    if kind.code() in IN_JOBS:
        yield "Appears as the `failure` of an analysis."
    yield "The same request may succeed later." if kind.retryable else "Sending the same again will not help."


def page(title: str, paragraphs: Iterable[str]) -> HTMLResponse:
    return HTMLResponse(PAGE.format(title=escape(title), body="".join(paragraphs)))
