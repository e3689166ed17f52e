"""What the routes work with, handed to the app when it is made."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
from fastapi import Depends, Request

from services.training.command_line import CommandLine
from services.training.metrics import Metrics
from shared.queue import GatewayQueue
from training.publications import Publications
from training.runs import Runs
from training.stores import Stores


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The service's ledgers, folders and connections."""

    runs: Runs
    publications: Publications
    stores: Stores
    models: Path
    """The model repository."""
    commands: CommandLine
    """For what takes torch, and an answer at once."""
    aliases: GatewayQueue
    triton: httpx.AsyncClient
    """Its base URL is Triton's HTTP address."""
    look: Callable[[], None]
    """Tells those who start processes that there is something new."""
    stopping: threading.Event
    """Set as the service is told to stop: answers that have no end must end then."""
    metrics: Metrics


async def of_request(request: Request) -> Parts:  # async, since FastAPI sends plain functions to a thread
    parts: Parts = request.app.state.parts
    return parts


Given = Annotated[Parts, Depends(of_request)]
