"""What Prometheus sees of the gateway."""

from contextlib import AbstractContextManager

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from services.web.metrics import RequestMetrics
from shared.deliveries import Backlog, Outcome
from shared.queue import Depth
from shared.upkeep import Upkeep


class Metrics:
    """The instruments of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = RequestMetrics("gateway", self._registry)
        self._upload_bytes = Counter("mien_gateway_upload_bytes", "Bytes of videos received in full.", registry=self._registry)
        self._depth = Gauge(
            "mien_queue_jobs", "Jobs that are not final; absent while Redis does not answer.", ["state"], registry=self._registry
        )
        self._oldest = Gauge(
            "mien_queue_oldest_seconds",
            "Age of the oldest such job; 0 without one, absent while Redis does not answer.",
            ["state"],
            registry=self._registry,
        )
        self._uploads = Gauge("mien_gateway_uploads_in_progress", "Videos that are being received.", registry=self._registry)
        self._upkeep = Counter(
            "mien_gateway_upkeep_jobs",
            "Jobs tidied up after, restored to Redis, or removed.",
            ["done"],
            registry=self._registry,
        )

        self._tries = Counter("mien_webhook_tries", "Tries to tell a webhook, by what came of them.", ["outcome"], registry=self._registry)
        self._untold = Gauge(
            "mien_webhook_deliveries_pending",
            "Deliveries that are not settled, those that wait for their next try included; absent while Redis does not answer.",
            ["state"],
            registry=self._registry,
        )

    def uploading(self) -> AbstractContextManager[None]:
        """Around the receiving of a video."""
        return self._uploads.track_inprogress()

    def tidied(self, done: Upkeep) -> None:
        for name, jobs in done:
            self._upkeep.labels(done=name).inc(jobs)

    def restored(self, jobs: int) -> None:
        self._upkeep.labels(done="restored").inc(jobs)

    def tried(self, outcome: Outcome) -> None:
        self._tries.labels(outcome=outcome).inc()

    def uploaded(self, size_bytes: int) -> None:
        self._upload_bytes.inc(size_bytes)

    def expose(self, depth: Depth | None, backlog: Backlog | None) -> bytes:
        """The text format, with the queue and the webhooks as they are now; None when nobody knows, so that no stale number is shown."""
        self._depth.clear()
        self._untold.clear()
        self._oldest.clear()
        if depth is not None:
            self._depth.labels(state="queued").set(depth.queued)
            self._depth.labels(state="running").set(depth.running)
            self._depth.labels(state="delayed").set(depth.delayed)
            self._oldest.labels(state="queued").set(depth.oldest_s)
        if backlog is not None:
            self._untold.labels(state="made").set(backlog.deliveries)
            self._untold.labels(state="to be made").set(backlog.announcements)
        return generate_latest(self._registry)
