"""The whole road, from upload to result, as a bench uses it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from deploy.stack import Stack
from shared.jobs import FINAL_STATES, Job, JobState
from tests.bench.rivals import Pace

LOOKS_EVERY_S: Final = 0.02
RAW: Final = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """A job that succeeded."""

    job: Job
    seconds: float
    """From the first byte of the upload to the first sight of the end."""
    result: dict[str, Any]

    @property
    def frames(self) -> int:
        """That were sampled."""
        return int(self.result["coverage"]["frames_sampled"])

    @property
    def pace(self) -> Pace:
        return Pace(frames=self.frames, seconds=self.seconds)

    @property
    def real_time(self) -> float:
        """Seconds of the video per second of waiting."""
        return float(self.result["media"]["duration_ms"] / 1000 / self.seconds)

    @property
    def faces(self) -> int:
        return int(self.result["coverage"]["faces_used"])


class Road:
    """A stack that is up, with a client. Its processes can be watched by `stack.programs.pid`."""

    def __init__(self, stack: Stack, client: httpx.Client) -> None:
        self.stack = stack
        self._client = client

    def analyse(self, video: Path, **options: object) -> Analysis:
        """Post the video and wait for its end. Raises RuntimeError when that is not a success."""
        began = time.monotonic()
        with video.open("rb") as body:
            answer = self._client.post("/v1/analyses", params=options, content=body, headers=RAW)
        while (job := told(answer)).state not in FINAL_STATES:
            time.sleep(LOOKS_EVERY_S)
            answer = self._client.get(f"/v1/analyses/{job.id}")
        seconds = time.monotonic() - began
        if job.state is not JobState.SUCCEEDED:
            raise RuntimeError(f"the bench's clip was {job.state}: {job.failure}")
        result = self._client.get(f"/v1/analyses/{job.id}/results").raise_for_status().json()
        return Analysis(job=job, seconds=seconds, result=result)


def told(answer: httpx.Response) -> Job:
    record = answer.raise_for_status().json()
    return Job.model_validate({name: value for name, value in record.items() if name in Job.model_fields})


@contextmanager
def road(home: Path) -> Iterator[Road]:
    """A stack of its own with the release that ships."""
    with Stack(home=home, announce=print) as stack, httpx.Client(base_url=stack.url, timeout=60) as client:
        yield Road(stack, client)
