"""What requests and responses say in headers (sections "Core Protocol / Headers" and those of the extensions)."""

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.web.errors import MalformedRequest
from shared.jobs import Options

VERSION: Final = "1.0.0"
EXTENSIONS: Final = "creation,creation-with-upload,expiration,termination,checksum"
CHECKSUMS: Final = ("sha1", "sha256")
"""The first is the one that every server must know."""
MEDIA_TYPE: Final = "application/offset+octet-stream"
ANALYSIS: Final = "Mien-Analysis"
"""Response header: the path of the analysis that a whole upload has become."""
PATHS: Final = "/v1/uploads"
OVERRIDING: Final = frozenset({"PATCH", "DELETE"})
NOT_KEPT: Final = frozenset({"filename", "filetype", "name", "type", "relativePath"})
"""Metadata that clients send by themselves. It may say something about a person, so it is dropped unread."""


@dataclass(frozen=True, kw_only=True)
class Checksum:
    """What a request's body must come to."""

    algorithm: str
    digest: bytes

    def fits(self, body: "hashlib._Hash") -> bool:
        return body.digest() == self.digest


def checksum_of(header: str | None) -> Checksum | None:
    """Section "Checksum / Upload-Checksum": the algorithm's name and the digest in Base64. Raises MalformedRequest."""
    if header is None:
        return None
    algorithm, _, digest = header.partition(" ")
    if algorithm not in CHECKSUMS:
        raise MalformedRequest(f"Upload-Checksum is in none of {', '.join(CHECKSUMS)}")
    return Checksum(algorithm=algorithm, digest=decoded(digest, "Upload-Checksum"))


def metadata_of(header: str | None) -> dict[str, str]:
    """Section "Creation / Upload-Metadata": names, each with its value in Base64. Those that are not kept are missing here.

    Raises MalformedRequest, also for a name that was given twice.
    """
    metadata: dict[str, str] = {}
    for pair in filter(None, (header or "").split(",")):
        name, _, value = pair.strip().partition(" ")
        if not name or name in metadata:
            raise MalformedRequest("Upload-Metadata has a name that is empty or given twice")
        metadata[name] = decoded(value, "Upload-Metadata").decode("utf-8", "replace")
    return {name: value for name, value in metadata.items() if name not in NOT_KEPT}


def metadata_header(metadata: Mapping[str, str]) -> str:
    """The inverse of `metadata_of`."""
    return ",".join(f"{name} {b64encode(value.encode()).decode()}" for name, value in metadata.items())


def options_of(metadata: Mapping[str, str]) -> Options:
    """The metadata are the analysis's options. Raises RequestValidationError, also for a name that is none."""
    try:
        return Options.model_validate(metadata)
    except ValidationError as error:
        raise RequestValidationError([{**one, "loc": ("header", "upload-metadata", *one["loc"])} for one in error.errors()]) from None


def decoded(text: str, header: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise MalformedRequest(f"{header} is not in Base64") from None


def http_date(milliseconds: int) -> str:
    return formatdate(milliseconds / 1000, usegmt=True)


class Tus:
    """ASGI middleware: what holds for every request and response under /v1/uploads, errors included.

    Sections "Tus-Resumable", which every response carries, and "X-HTTP-Method-Override", for clients that can only POST.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PATHS):
            await self._app(scope, receive, send)
            return

        async def send_tus(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Tus-Resumable"] = VERSION
                headers["Tus-Version"] = VERSION
            await send(message)

        override = dict(scope["headers"]).get(b"x-http-method-override", b"").decode("latin-1")
        if scope["method"] == "POST" and override in OVERRIDING:
            scope = {**scope, "method": override}
        await self._app(scope, receive, send_tus)
