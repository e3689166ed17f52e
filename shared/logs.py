"""One line of JSON per event on standard output, the same in every service.

Whatever is passed as `extra={...}` becomes a member of the line. Events name jobs and requests by id; file names,
addresses of clients and contents of videos never belong in one.
A line that is written inside `about` carries what that was given, whoever writes it: a decoder need not know of jobs.
"""

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

PLAIN: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}
"""What every record carries anyway; the rest came in through `extra`."""
_ABOUT: Final[ContextVar[Mapping[str, object]]] = ContextVar("about", default=MappingProxyType({}))


@contextmanager
def about(**members: object) -> Iterator[None]:
    """Every line of this thread or task until the block ends is about this, as well as about what it was about before."""
    token = _ABOUT.set({**_ABOUT.get(), **members})
    try:
        yield
    finally:
        _ABOUT.reset(token)


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= _ABOUT.get()
        line |= {name: value for name, value in vars(record).items() if name not in PLAIN}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def configure(service: str, *, level: str = "INFO") -> None:
    """Send every logger of this process to standard output. Called once, in `__main__`."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
