"""`/problems`: what each code means, at the address that every problem's `type` names."""

from collections.abc import Collection, Iterable, Iterator
from html import escape
from inspect import cleandoc
from typing import Annotated, Final

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse

from services.web.errors import NotFound
from services.web.openapi import documented
from services.web.problems import Problems
from shared.errors import MienError

PAGE: Final = "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><h1>{title}</h1>{body}</html>"


class Catalogue:
    """The pages about one service's problems, and about what its work may fail with."""

    def __init__(self, problems: Problems, *, failures: Collection[type[MienError]], work: str) -> None:
        """`failures` appear as the `failure` of `work`, such as "an analysis", whether or not they are answers as well."""
        self._problems = problems
        self._failures = {kind.code() for kind in failures}
        self._kinds = {kind.code(): kind for kind in (*failures, *problems.statuses)}
        self._work = work

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/problems", tags=["problems"], default_response_class=HTMLResponse)
        router.add_api_route("", self.index, summary="Every problem code", responses=documented(self._problems))
        router.add_api_route("/{code}", self.explain, summary="What a problem code means", responses=documented(self._problems, NotFound))
        return router

    async def index(self) -> HTMLResponse:
        """A page that lists them all: those of responses, and those of work that failed."""
        codes = sorted(self._kinds.items())
        return page("Problems", (f"<p><a href='/problems/{code}'>{code}</a>: {escape(kind.title())}</p>" for code, kind in codes))

    async def explain(self, code: Annotated[str, Path(description="A problem's `code`.", examples=["not-found"])]) -> HTMLResponse:
        """A page about one code."""
        if code not in self._kinds:
            raise NotFound
        return page(code, (f"<p>{escape(line)}</p>" for line in self._meaning(self._kinds[code])))

    def _meaning(self, kind: type[MienError]) -> Iterator[str]:
        title, _, more = cleandoc(kind.__doc__ or "").partition("\n")
        yield title
        if more:
            yield more.strip()
        status = self._problems.statuses.get(kind)
        if status is not None:
            yield f"HTTP status: {status.value} {status.phrase}."
        if kind.code() in self._failures:
            yield f"Appears as the `failure` of {self._work}."
        yield "The same request may succeed later." if kind.retryable else "Sending the same again will not help."


def with_kinds(*errors: type[MienError]) -> Iterator[type[MienError]]:
    """These errors and every kind of them."""
    for error in errors:
        yield error
        yield from with_kinds(*error.__subclasses__())


def page(title: str, paragraphs: Iterable[str]) -> HTMLResponse:
    return HTMLResponse(PAGE.format(title=escape(title), body="".join(paragraphs)))
