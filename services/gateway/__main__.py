"""`python -m services.gateway`: read the environment, listen."""

import logging

import uvicorn

from services.gateway.app import create_app
from services.gateway.published import Models
from services.gateway.settings import Settings
from services.web.limits import PerDay, PerMinute
from services.gateway.uploads import UploadLimits
from services.web import server
from shared import logs
from shared.queue import GatewayQueue
from shared.signatures import TrustedKeys
from shared.videos import Videos


def main() -> None:
    settings = Settings()
    logs.configure("gateway")
    quieten()
    guard = server.guarded(
        settings.host,
        settings.api_keys,
        requests=PerMinute(settings.requests_per_minute),
        videos=PerDay(settings.videos_per_day, redis_url=settings.redis_url),
    )
    app = create_app(
        queue=GatewayQueue(settings.redis_url),
        videos=Videos(settings.data),
        models=Models(settings.models, trusted=TrustedKeys.load(settings.trusted_keys) if settings.trusted_keys else None),
        triton_http=settings.triton_http,
        limits=UploadLimits(max_bytes=settings.max_upload_bytes),
        guard=guard,
    )
    uvicorn.Server(server.config(app, host=settings.host, port=settings.port)).run()


def quieten() -> None:
    """What these libraries would say is in our own line about the request already."""
    for name in ("python_multipart", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
