"""Commands of `python -m training` that somebody waits for. They bring torch along, which this process does without."""

import asyncio
import json
import logging
import os
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from services.web.errors import DependencyUnavailable
from shared.errors import InferenceUnavailable, InternalError, MienError
from shared.jobs import Failure

log = logging.getLogger(__name__)

ENDS_WITHIN_S: Final = 660.0
"""More than Triton is given to load a release: 300 s for each of its two graphs."""


class CommandLine:
    """Runs commands, and raises what they fail with."""

    def __init__(self, *, python: str, environment: Mapping[str, str]) -> None:
        """`environment` comes on top of this process's own."""
        self._python = python
        self._environment = environment

    async def run(self, *arguments: str) -> dict[str, Any]:
        """What the command answers with. Raises the MienError that it failed with, InternalError where it says nothing.

        One that does not end in time is killed and raises DependencyUnavailable: what it waits for is the model server.
        """
        process = await asyncio.create_subprocess_exec(
            self._python,
            *("-m", "training", *arguments, "--json"),
            env={**os.environ, **self._environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(ENDS_WITHIN_S):
                output, errors = await process.communicate()
        except TimeoutError:
            log.warning("command does not end", extra={"arguments": arguments})
            raise as_ours(InferenceUnavailable()) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode == 0:
            answer: dict[str, Any] = json.loads(output)
            return answer
        log.warning("command failed", extra={"arguments": arguments, "status": process.returncode, "said": errors.decode(errors="replace")})
        raise error_in(output)


def error_in(output: bytes) -> MienError:
    """What a command failed with, as it would have been raised here."""
    try:
        failure = Failure.model_validate_json(output)
    except ValidationError:
        return InternalError()
    return as_ours(kinds().get(failure.code, InternalError)(failure.detail))


def as_ours(error: MienError) -> MienError:
    """The error as this service's API knows it."""
    if type(error) is InferenceUnavailable:
        return DependencyUnavailable("The model server does not answer.", dependency="triton")
    return error


def kinds() -> dict[str, type[MienError]]:
    """Every error by its code."""
    found, todo = {}, [MienError]
    while todo:
        kind = todo.pop()
        found[kind.code()] = kind
        todo += kind.__subclasses__()
    return found
