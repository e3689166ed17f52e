"""`python -m services.gateway`: read the environment, listen."""

import logging

from services.gateway.app import create_app
from services.gateway.published import Models
from services.gateway.settings import Settings
from services.gateway.uploads import UploadLimits
from services.gateway.webhooks.courier import Terms
from services.gateway.webhooks.egress import Egress
from services.web import server
from services.web.limits import PerDay, PerMinute
from services.web.patience import Patience
from shared import logs
from shared.queue import GatewayQueue, Limits
from shared.redis_passwords import with_password
from shared.signatures import TrustedKeys
from shared.tracing import tracing_to
from shared.videos import Videos


def main() -> None:
    settings = Settings()
    logs.configure("gateway")
    quieten()
    redis_url = with_password(settings.redis_url, settings.redis_password_file)
    guard = server.guarded(
        settings.host,
        settings.api_keys,
        requests=PerMinute(settings.requests_per_minute),
        videos=PerDay(settings.videos_per_day, redis_url=redis_url),
    )
    tracing = tracing_to(settings.otlp_endpoint, service="gateway")
    app = create_app(
        queue=GatewayQueue(redis_url, limits=queue_limits(settings)),
        videos=Videos(settings.data),
        models=Models(settings.models, trusted=TrustedKeys.load(settings.trusted_keys) if settings.trusted_keys else None),
        triton_http=settings.triton_http,
        limits=UploadLimits(max_bytes=settings.max_upload_bytes),
        guard=guard,
        egress=Egress(allow_http=settings.webhook_http, networks=settings.webhook_networks, proxy=settings.webhook_proxy),
        terms=Terms(public_url=settings.public_url.rstrip("/")),
        tracing=tracing,
    )
    patience = Patience(per_address=settings.connections_per_address)
    server.Server(server.config(app, host=settings.host, port=settings.port, patience=patience)).run()
    tracing.close()


def queue_limits(settings: Settings) -> Limits:
    return Limits(jobs=settings.queued_analyses, bytes=settings.queued_bytes, tenant_jobs=settings.queued_per_tenant)


def quieten() -> None:
    """What these libraries would say is in our own line about the request already."""
    for name in ("python_multipart", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
