"""What Prometheus sees of the gateway. Labels are route templates, never ids."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from shared.queue import Depth

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
"""Histogram buckets: from a status poll to a large upload over a slow line."""


class Metrics:
    """The instruments of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("mien_gateway_requests", "Requests answered.", ["route", "method", "status"], registry=self._registry)
        self._seconds = Histogram(
            "mien_gateway_request_seconds",
            "From the request's headers to the response's.",
            ["route", "method"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._upload_bytes = Counter("mien_gateway_upload_bytes", "Bytes of videos received in full.", registry=self._registry)
        self._depth = Gauge(
            "mien_queue_jobs", "Jobs that are not final; absent while Redis does not answer.", ["state"], registry=self._registry
        )

    def answered(self, *, route: str, method: str, status: int, seconds: float) -> None:
        self._requests.labels(route=route, method=method, status=status).inc()
        self._seconds.labels(route=route, method=method).observe(seconds)

    def uploaded(self, size_bytes: int) -> None:
        self._upload_bytes.inc(size_bytes)

    def expose(self, depth: Depth | None) -> bytes:
        """The text format, with the queue as it is now; None when nobody knows, so that no stale number is shown."""
        self._depth.clear()
        if depth is not None:
            self._depth.labels(state="queued").set(depth.queued)
            self._depth.labels(state="running").set(depth.running)
            self._depth.labels(state="delayed").set(depth.delayed)
        return generate_latest(self._registry)
