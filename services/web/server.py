"""How a service listens."""

import logging
import resource
import socket
import sys
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import FastAPI

from services.web.guard import Guard, guard_of_host
from services.web.limits import Limit
from services.web.patience import PATIENCE, Patience, patient
from shared.errors import MienError

log = logging.getLogger(__name__)

DESCRIPTORS: Final = 16_384


def guarded(host: str, api_keys: Path | None, *, requests: Limit | None = None, videos: Limit | None = None) -> Guard:
    """The guard of a service that is to listen on `host`. Without the key that this takes, the process ends here, and says why."""
    try:
        return guard_of_host(host, api_keys, requests=requests, videos=videos)
    except MienError as error:
        log.critical("does not start", extra={"code": error.code(), "reason": f"{error.title()} {error.detail}"})
        sys.exit(1)


class Server(uvicorn.Server):
    """Ends answers that go on for long before it waits for those that do not: as it stops, it calls the app's `state.leave`."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        allow_descriptors()
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        app = self.config.app
        if isinstance(app, FastAPI) and hasattr(app.state, "leave"):
            app.state.leave()
        await super().shutdown(sockets)


def allow_descriptors() -> None:
    """As many as the system lets this process have: one for each connection, and those that only wait must not be in anybody's way."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if most == resource.RLIM_INFINITY else min(DESCRIPTORS, most)
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def config(app: FastAPI, *, host: str, port: int, patience: Patience = PATIENCE) -> uvicorn.Config:
    """The size of a request's headers is limited here, and by `patience` how slowly they may come; bodies are limited by who reads them."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=patient(patience),  # on h11, which bounds a request's headers; httptools takes them without end
        h11_max_incomplete_event_size=16 * 1024,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=patience.pause_s,
        timeout_graceful_shutdown=30,
    )
