"""What the worker counts, for Prometheus."""

from typing import Final

from prometheus_client import Counter, Histogram

from shared.jobs import Timings

_SECONDS: Final = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, float("inf"))

ATTEMPTS: Final = Counter("mien_attempts", "Attempts at jobs, by how they ended.", ["outcome"])
ATTEMPT_SECONDS: Final = Histogram("mien_attempt_seconds", "Duration of an attempt, by how it ended.", ["outcome"], buckets=_SECONDS)
STAGE_SECONDS: Final = Histogram("mien_stage_seconds", "Where the time of succeeded jobs went.", ["stage"], buckets=_SECONDS)
STRANDED: Final = Counter("mien_stranded_jobs", "Jobs that failed because no model answered in time.")


def count_attempt(outcome: str, seconds: float) -> None:
    ATTEMPTS.labels(outcome).inc()
    ATTEMPT_SECONDS.labels(outcome).observe(seconds)


def count_stages(timings: Timings) -> None:
    for stage, milliseconds in timings.model_dump(exclude={"total"}).items():
        STAGE_SECONDS.labels(stage).observe(milliseconds / 1000)
