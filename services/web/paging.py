"""Lists a page at a time, with opaque tokens (AIP-158)."""

from base64 import b64decode, urlsafe_b64encode
from typing import Annotated, Final

from fastapi import Query
from fastapi.exceptions import RequestValidationError

PageToken = Annotated[str | None, Query(description="`next_page_token` of the page before. Keep the other parameters as they were.")]

TOKEN_BYTES: Final = 6


def page_size(asked: int, *, default: int, most: int) -> int:
    """0 asks for the default, and more than the most is not an error."""
    return min(asked or default, most)


def token(place: int) -> str:
    """Names a place in a list by a number that only the server understands."""
    return urlsafe_b64encode(place.to_bytes(TOKEN_BYTES)).decode()


def place_of(page_token: str | None) -> int:
    """The inverse of `token`; 0 without one. Raises RequestValidationError when it was not given out here."""
    if not page_token:
        return 0
    try:
        place = b64decode(page_token, altchars=b"-_", validate=True)
    except ValueError:
        raise invalid_token() from None
    if len(place) != TOKEN_BYTES:
        raise invalid_token()
    return int.from_bytes(place)


def invalid_token() -> RequestValidationError:
    return RequestValidationError([{"loc": ("query", "page_token"), "type": "page_token", "msg": "This token was not given out here"}])
