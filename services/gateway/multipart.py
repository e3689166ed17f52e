"""The video and the options out of a `multipart/form-data` body, chunk by chunk, without keeping the video.

The grammar is python-multipart's; what is here decides which parts are taken and how much of anything.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from fastapi.exceptions import RequestValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from services.web.errors import MalformedRequest

VIDEO: Final = "video"
"""Name of the part that holds the video."""
MAX_PARTS: Final = 16
MAX_HEADERS: Final = 8
"""Per part."""
MAX_HEADER_BYTES: Final = 4096
"""Per header line."""
MAX_FIELD_BYTES: Final = 1024
"""Of one form field's value."""
MAX_OVERHEAD_BYTES: Final = 64 * 1024
"""What a form may weigh beside its video: boundaries, headers, fields, and whatever comes before and after them."""


class VideoForm:
    """Feed it the body; it gives back the bytes of the video part and keeps the fields."""

    def __init__(self, boundary: bytes) -> None:
        self.fields: dict[str, str] = {}
        """Every other part, by name. Complete after `finish`."""
        self._video: list[bytes] = []
        self._has_video = False
        self._parts = 0
        self._name = ""
        self._value = bytearray()
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._disposition = b""
        self._ended = False
        with malformed():
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
                max_header_count=MAX_HEADERS,
                max_header_size=MAX_HEADER_BYTES,
            )

    def feed(self, chunk: bytes) -> Iterable[bytes]:
        """The bytes of the video in this chunk of the body. Raises MalformedRequest, RequestValidationError."""
        with malformed():
            self._parser.write(chunk)
        video, self._video = self._video, []
        return video

    def finish(self) -> dict[str, str]:
        """The form's fields, once the body has ended. Raises MalformedRequest, RequestValidationError."""
        if not self._ended:
            raise MalformedRequest("the form ends before its closing boundary")
        if not self._has_video:
            raise invalid(VIDEO, "missing", "Field required")
        return self.fields

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise MalformedRequest(f"the form has more than {MAX_PARTS} parts")
        self._name, self._disposition = "", b""
        self._value.clear()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        kind, parameters = parse_options_header(self._disposition)
        if kind != b"form-data" or not parameters.get(b"name"):
            raise MalformedRequest("a part of the form has no name")
        self._name = parameters[b"name"].decode("utf-8", "replace")
        if self._name in self.fields or (self._name == VIDEO and self._has_video):
            raise invalid(self._name, "given_twice", "Given more than once")
        if self._name == VIDEO:
            self._has_video = True
        elif b"filename" in parameters:
            raise invalid(self._name, "unexpected_file", f"The file belongs in a part named `{VIDEO}`")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == VIDEO:
            self._video.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            raise MalformedRequest(f"a field of the form is longer than {MAX_FIELD_BYTES} bytes")

    def _on_part_end(self) -> None:
        if self._name != VIDEO:
            self.fields[self._name] = self._value.decode("utf-8", "replace")

    def _on_end(self) -> None:
        self._ended = True


@contextmanager
def malformed() -> Iterator[None]:
    """The parser's errors stop here."""
    try:
        yield
    except FormParserError as error:
        raise MalformedRequest("the body is not the multipart form that its Content-Type promises") from error


def invalid(name: str, code: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("body", name), "type": code, "msg": message}])
