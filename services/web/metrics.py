"""What Prometheus sees of a service's requests. Labels are route templates, never ids."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
"""Histogram buckets: from a status poll to a large upload over a slow line."""


class RequestMetrics:
    """How many requests, how they ended, how long they took."""

    def __init__(self, service: str, registry: CollectorRegistry) -> None:
        """Their names begin with `mien_<service>_`."""
        self._requests = Counter(f"mien_{service}_requests", "Requests answered.", ["route", "method", "status"], registry=registry)
        self._seconds = Histogram(
            f"mien_{service}_request_seconds",
            "From the request's headers to the response's.",
            ["route", "method"],
            buckets=SECONDS,
            registry=registry,
        )
        self._problems = Counter(f"mien_{service}_problems", "Requests answered with a problem, by its code.", ["code"], registry=registry)

    def answered(self, *, route: str, method: str, status: int, seconds: float, problem: str = "") -> None:
        """`problem` is the code of the problem that was the answer."""
        self._requests.labels(route=route, method=method, status=status).inc()
        self._seconds.labels(route=route, method=method).observe(seconds)
        if problem:
            self._problems.labels(code=problem).inc()
