"""The OpenAPI descriptions of the services, of which none is started."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.gateway import app as gateway_app
from services.gateway.published import Models
from services.gateway.uploads import UploadLimits
from services.training import app as training_app
from services.training.settings import ServiceSettings
from services.web.guard import Guard
from shared.queue import GatewayQueue
from shared.videos import Videos


def gateway() -> dict[str, Any]:
    """Nothing is connected to before it is used."""
    app = gateway_app.create_app(
        queue=GatewayQueue("redis://127.0.0.1:1"),
        videos=Videos(Path("nowhere")),
        models=Models(Path("nowhere")),
        triton_http="",
        limits=UploadLimits(max_bytes=1),
        guard=Guard(),
    )
    return app.openapi()


def training() -> dict[str, Any]:
    return training_app.create_app(ServiceSettings(), stopping=threading.Event(), guard=Guard()).openapi()


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each with its method and path, such as `GET /healthz`."""
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation
