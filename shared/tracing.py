"""Spans of a video's way through Mien, for those who ask for them: OpenTelemetry over OTLP/HTTP. Nobody else pays for it.

A span is named by its W3C `traceparent`, a text that travels in a request's header and in the job's record; so the worker's spans
hang under that of the request which brought the video, whichever process and day. Attributes name ids, routes and counts, never
what a video shows.
"""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

TRACEPARENT: Final = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

Attribute = str | int | float


class Span(Protocol):
    """One that has begun."""

    @property
    def traceparent(self) -> str:
        """Names it, for spans beneath it, in whichever process. Empty where there is none."""

    def tell(self, name: str, **attributes: Attribute) -> None:
        """What became known about it only since it began."""


class Tracing(Protocol):
    """Where spans go."""

    def span(self, name: str, *, parent: str = "", **attributes: Attribute) -> AbstractContextManager[Span]:
        """From here to the end of the block. `parent` is a traceparent; without one a trace begins."""

    def record(self, name: str, *, parent: str, began_ms: int, ended_ms: int, **attributes: Attribute) -> None:
        """One that is over. Times are Unix milliseconds."""

    def close(self) -> None:
        """Send what is left."""


class NoSpan:
    """Hands on the name of whoever is above it."""

    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent

    def tell(self, name: str, **attributes: Attribute) -> None:
        """Nobody listens."""


class Untraced:
    """Nobody asked."""

    @contextmanager
    def span(self, name: str, *, parent: str = "", **attributes: Attribute) -> Iterator[NoSpan]:  # noqa: ARG002
        yield NoSpan(parent)

    def record(self, name: str, *, parent: str, began_ms: int, ended_ms: int, **attributes: Attribute) -> None:
        """Nobody listens."""

    def close(self) -> None:
        """Nothing is left."""


def tracing_to(endpoint: str, *, service: str) -> Tracing:
    """Send spans to the OTLP collector at this base address, such as `http://127.0.0.1:4318`; with none, nothing is even imported."""
    if not endpoint:
        return Untraced()
    from shared.tracing_otlp import Otlp

    return Otlp(endpoint, service=service)


def traceparent_of(header: str) -> str:
    """A request's header if it is well-formed, else nothing: it goes into records and on to other services."""
    return header if TRACEPARENT.fullmatch(header) else ""
