"""A service as its clients meet it: a real uvicorn on a free port."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI

from services.web import server
from services.web.patience import PATIENCE, Patience


@dataclass(frozen=True, kw_only=True)
class Listening:
    """A service that answers on a loopback port."""

    server: uvicorn.Server
    port: int
    thread: threading.Thread

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """As SIGTERM would."""
        self.server.should_exit = True
        self.thread.join()


@contextmanager
def listening(app: FastAPI, *, patience: Patience = PATIENCE) -> Iterator[Listening]:
    """Serve `app` until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port = opened.getsockname()[1]
        uvicorn_server = server.Server(server.config(app, host="127.0.0.1", port=port, patience=patience))
        thread = threading.Thread(target=uvicorn_server.run, kwargs={"sockets": [opened]})
        thread.start()
        service = Listening(server=uvicorn_server, port=port, thread=thread)
        try:
            while not uvicorn_server.started:
                assert thread.is_alive(), "the service did not start"
                time.sleep(0.01)
            yield service
        finally:
            service.stop()
