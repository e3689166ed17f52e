"""`python -m services.training`: read the environment, listen."""

import logging
import threading
from types import FrameType

import uvicorn
from fastapi import FastAPI

from services.training.app import create_app
from services.training.settings import ServiceSettings
from services.web import server
from shared import logs


class Server(uvicorn.Server):
    """Says that it is told to stop at once: it would wait for streams that wait for it."""

    def __init__(self, config: uvicorn.Config, *, stopping: threading.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._stopping.set()
        super().handle_exit(sig, frame)


def main() -> None:
    settings = ServiceSettings()
    logs.configure("training")
    logging.getLogger("httpx").setLevel(logging.ERROR)  # what it would say is in our own line about the request already
    stopping = threading.Event()
    guard = server.guarded(settings.training_host, settings.api_keys)
    app: FastAPI = create_app(settings, stopping=stopping, guard=guard)
    Server(server.config(app, host=settings.training_host, port=settings.training_port), stopping=stopping).run()


if __name__ == "__main__":
    main()
