"""How a service listens."""

import logging
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from services.web.guard import Guard, guard_of_host
from services.web.limits import Limit
from shared.errors import MienError

log = logging.getLogger(__name__)


def guarded(host: str, api_keys: Path | None, *, requests: Limit | None = None, videos: Limit | None = None) -> Guard:
    """The guard of a service that is to listen on `host`. Without the key that this takes, the process ends here, and says why."""
    try:
        return guard_of_host(host, api_keys, requests=requests, videos=videos)
    except MienError as error:
        log.critical("does not start", extra={"code": error.code(), "reason": f"{error.title()} {error.detail}"})
        sys.exit(1)


def config(app: FastAPI, *, host: str, port: int) -> uvicorn.Config:
    """The size of a request's headers is limited here; bodies are limited by who reads them.

    Nothing limits how slowly headers arrive or how many connections are open: on an open network that takes a proxy in front.
    """
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http="h11",  # bounds a request's headers; httptools takes them without end
        h11_max_incomplete_event_size=16 * 1024,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # longer than a proxy's own, so that it is the proxy that hangs up
        timeout_graceful_shutdown=30,
    )
