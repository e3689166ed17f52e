"""A request's body onto the disk, chunk by chunk: capped, timed, hashed, never in memory and never in a temporary folder."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import BinaryIO, Final, Protocol

from anyio import to_thread
from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers

from services.gateway.multipart import MAX_OVERHEAD_BYTES, VideoForm
from services.gateway.problems import ACCEPTED, MULTIPART, UnsupportedMediaType, UploadTooLarge, UploadTooSlow
from services.web.errors import MalformedRequest
from shared.errors import MediaEmpty
from shared.videos import storage_errors

KIB: Final = 1024
BATCH_BYTES: Final = KIB * KIB
"""Written and hashed in one go by a thread: large enough that the switch costs nothing, small enough to forget."""


@dataclass(frozen=True, kw_only=True)
class UploadLimits:
    """How large and how slow an upload may be."""

    max_bytes: int
    """Of the video."""
    min_bytes_per_s: int = 32 * KIB
    grace_s: float = 5
    """How long the first bytes may take, and how long it may be slower than `min_bytes_per_s` at the start."""
    idle_s: float = 10
    """The longest pause; an upload that ran well before may use all of it."""


@dataclass(frozen=True, kw_only=True)
class Received:
    """An upload that is whole and in its file."""

    size_bytes: int
    sha256: str
    fields: dict[str, str]
    """The other fields of the form; empty for a raw body."""


class Body(Protocol):
    """Where in a body the video is."""

    def feed(self, chunk: bytes) -> Iterable[bytes]: ...

    def finish(self) -> dict[str, str]: ...


class RawBody:
    """A body that is the video and nothing else."""

    def feed(self, chunk: bytes) -> Iterable[bytes]:
        return (chunk,)

    def finish(self) -> dict[str, str]:
        return {}


def open_body(headers: Headers, *, max_bytes: int) -> Body:
    """What to read the body with, decided on the headers alone.

    Raises UnsupportedMediaType, MalformedRequest (a form without a boundary), UploadTooLarge (Content-Length says so).
    """
    body = body_of(headers)
    overhead = 0 if isinstance(body, RawBody) else MAX_OVERHEAD_BYTES
    if announced_bytes(headers) > max_bytes + overhead:
        raise too_large(max_bytes)
    return body


def announced_bytes(headers: Headers) -> int:
    """0 of a body whose length nobody knows yet."""
    return int(headers.get("content-length", 0))


def body_of(headers: Headers) -> Body:
    if headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMediaType("the body is compressed", accepted=ACCEPTED)
    raw_kind, parameters = parse_options_header(headers.get("content-type", ""))
    kind = raw_kind.decode("latin-1")
    if kind == MULTIPART:
        if not parameters.get(b"boundary"):
            raise MalformedRequest("the form's Content-Type names no boundary")
        return VideoForm(parameters[b"boundary"])
    if kind.startswith("video/") or kind == "application/octet-stream":
        return RawBody()
    raise UnsupportedMediaType(f"the Content-Type is {kind}" if kind else "the request has no Content-Type", accepted=ACCEPTED)


async def receive(request: Request, body: Body, into: Path, *, limits: UploadLimits) -> Received:
    """Stream the video of `request` into a new file.

    Raises UploadTooLarge, UploadTooSlow, MalformedRequest, RequestValidationError, MediaEmpty, StorageError, and
    starlette's ClientDisconnect. Whatever happens, the caller removes the file unless this returns.
    """
    file = await to_thread.run_sync(new_file, into)
    try:
        sink = Sink(file, max_bytes=limits.max_bytes)
        async with aclosing(capped(paced(request, limits), max_bytes=limits.max_bytes)) as chunks:
            async for chunk in chunks:
                for piece in body.feed(chunk):
                    await sink.write(piece)
        fields = body.finish()
        await sink.flush()
    finally:
        file.close()
    if not sink.size_bytes:
        raise MediaEmpty
    return Received(size_bytes=sink.size_bytes, sha256=sink.sha256(), fields=fields)


def new_file(path: Path) -> BinaryIO:
    with storage_errors():
        return path.open("xb", buffering=0)


class Sink:
    """A file that is written and hashed off the event loop."""

    def __init__(self, file: BinaryIO, *, max_bytes: int) -> None:
        self.size_bytes = 0
        self._file = file
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()
        self._batch = bytearray()

    async def write(self, piece: bytes) -> None:
        self.size_bytes += len(piece)
        if self.size_bytes > self._max_bytes:
            raise too_large(self._max_bytes)
        self._batch += piece
        if len(self._batch) >= BATCH_BYTES:
            await self.flush()

    async def flush(self) -> None:
        batch, self._batch = self._batch, bytearray()
        await to_thread.run_sync(self._store, batch)

    def sha256(self) -> str:
        return self._hash.hexdigest()

    def _store(self, batch: bytearray) -> None:
        with storage_errors():
            rest = memoryview(batch)
            while rest:  # an unbuffered file may take less than it is given, and does so where the disk fills up
                rest = rest[self._file.write(rest) :]
        self._hash.update(batch)


async def paced(request: Request, limits: UploadLimits) -> AsyncGenerator[bytes, None]:
    """The body's chunks. Raises UploadTooSlow.

    A client has a credit of seconds: waiting for it uses them up, every byte earns some. Only the time spent waiting counts, so
    a slow disk here is never held against the client.
    """
    credit_s = limits.grace_s
    async with aclosing(request.stream()) as stream:
        while True:
            asked = monotonic()
            try:
                async with asyncio.timeout(credit_s):
                    chunk = await anext(stream)
            except TimeoutError:
                raise UploadTooSlow(f"at least {limits.min_bytes_per_s} bytes per second must arrive") from None
            except StopAsyncIteration:
                return
            waited_s = monotonic() - asked
            credit_s = min(limits.idle_s, credit_s - waited_s + len(chunk) / limits.min_bytes_per_s)
            yield chunk


async def capped(chunks: AsyncGenerator[bytes, None], *, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The same chunks, until the whole body outgrows any form that could hold an allowed video. Raises UploadTooLarge."""
    left = max_bytes + MAX_OVERHEAD_BYTES
    async for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise too_large(max_bytes)
        yield chunk


def too_large(max_bytes: int) -> UploadTooLarge:
    return UploadTooLarge(f"the limit is {max_bytes} bytes", limit_bytes=max_bytes)
