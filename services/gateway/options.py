"""What a client asks for beside the video: query parameters, or fields of the form, and each of them in one place only."""

from collections import Counter
from typing import Annotated

from fastapi import Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from shared.jobs import Options


async def of_query(request: Request, options: Annotated[Options, Query()]) -> Options:
    """Raises RequestValidationError, also for one that was given more than once: nobody can tell which of them was meant."""
    times = Counter(name for name, _ in request.query_params.multi_items())
    if twice := [name for name, count in times.items() if count > 1]:
        raise given_twice("query", twice, "Given more than once")
    return options


Asked = Annotated[Options, Depends(of_query)]


def with_fields(options: Options, fields: dict[str, str]) -> Options:
    """The query's options and the form's together. Raises RequestValidationError, also for one that was given in both."""
    if twice := options.model_fields_set & fields.keys():
        raise given_twice("body", sorted(twice), "Also given in the query")
    try:
        return Options.model_validate({**options.model_dump(exclude_unset=True), **fields})
    except ValidationError as error:
        raise RequestValidationError([{**one, "loc": (place_of(one["loc"][0], fields), *one["loc"])} for one in error.errors()]) from None


def place_of(name: int | str, fields: dict[str, str]) -> str:
    """Where a client finds what is wrong: a form's `start_ms` may lie after the query's `end_ms`."""
    return "body" if name in fields else "query"


def given_twice(place: str, names: list[str], message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": (place, name), "type": "given_twice", "msg": message} for name in names])
