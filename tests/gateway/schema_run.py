"""Schemathesis against a gateway: it reads the description, and tries whether the gateway keeps to it.

Redis and the gateway are real processes. Videos that are posted become results at once, since there is nothing in them to analyse.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shared.jobs import PUBLIC, Timings
from shared.keys import KeyFolder, Purpose, Role
from shared.queue import CHAMPION, WorkerQueue
from shared.videos import Videos
from tests.gateway.conftest import FakeTriton
from tests.gateway.processes import launched
from tests.gateway.releases import publish_in
from tests.gateway.results import result

REPOSITORY: Final = Path(__file__).parents[2]
CONFIGURATION: Final = Path(__file__).with_name("schemathesis.toml")
PHASES: Final = ("examples", "coverage", "fuzzing", "stateful")
MANY: Final = 10**6
NOBODY: Final = "http://127.0.0.1:9"
"""As a proxy it keeps invented webhooks on this machine."""
RELEASE: Final = 1


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What came of a run."""

    cases: int
    statuses: Counter[int]
    failures: Mapping[str, int]
    """How many of each kind, over all checks."""
    errors: int
    """Of Schemathesis itself: cases that it could not make or send."""
    text: str
    """All of it for people, with a command for each failure that repeats it."""

    @property
    def is_clean(self) -> bool:
        return not self.failures and not self.errors and not self.broken

    @property
    def broken(self) -> int:
        """Answers that say it was the server's fault."""
        return sum(count for status, count in self.statuses.items() if status >= 500)


def try_out(*, redis_url: str, folder: Path, examples: int, seed: int, phases: tuple[str, ...] = PHASES) -> Tried:
    """examples: for each operation and phase, at most. Leaves the reports in `folder`."""
    with served(redis_url=redis_url, folder=folder) as (url, key):
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "--no-color", f"--config-file={CONFIGURATION}"),
            *("run", f"{url}/openapi.json", "--header", f"Authorization: Bearer {key}"),
            *("--phases", ",".join(phases), "--mode", "all", "--checks", "all"),
            *("--max-examples", str(examples), "--seed", str(seed), "--continue-on-failure", "--no-shrink"),
            *("--report", "json,ndjson", "--report-json-path", "report.json", "--report-ndjson-path", "report.ndjson"),
        ]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        ran = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if not (folder / "report.json").exists():
        raise RuntimeError(ran.stdout)
    report = json.loads((folder / "report.json").read_text())
    if not report["complete"]:
        raise RuntimeError(ran.stdout)
    return Tried(
        cases=report["test_cases"]["generated"],
        statuses=statuses(folder / "report.ndjson"),
        failures={failure["title"]: failure["count"] for failure in report["failures"]},
        errors=sum(error["count"] for error in report["errors"]),
        text=ran.stdout,
    )


@contextmanager
def served(*, redis_url: str, folder: Path) -> Iterator[tuple[str, str]]:
    """A gateway with everything that it wants, and a key that opens all of it."""
    new = KeyFolder(folder / "keys").create(tenant=PUBLIC, roles=[Role.CLIENT, Role.OPS], purpose=Purpose.RESEARCH)
    publish_in(folder / "models", RELEASE)
    plenty = dict.fromkeys(("requests_per_minute", "videos_per_day", "queued_analyses", "queued_per_tenant"), MANY)
    places = {"data": folder / "data", "api_keys": folder / "keys", "models": folder / "models"}
    with FakeTriton() as triton:
        triton.load(RELEASE)
        with (
            launched(redis_url=redis_url, triton_http=triton.url, webhook_proxy=NOBODY, **places, **plenty) as gateway,
            worked(redis_url, Videos(places["data"])),
        ):
            yield gateway.url, new.written


@contextmanager
def worked(redis_url: str, videos: Videos) -> Iterator[None]:
    """Every video gets a result."""
    stopping = threading.Event()

    def work() -> None:
        while not stopping.is_set():
            if (lease := queue.claim()) is None:
                time.sleep(0.05)
                continue
            videos.write_result(result(lease.job.id, 3, 2), lease.token)
            queue.succeed(lease, Timings(total=5))

    with closing(WorkerQueue(redis_url)) as queue:
        queue.setup()
        queue.promote(CHAMPION, RELEASE)
        worker = threading.Thread(target=work)
        worker.start()
        try:
            yield
        finally:
            stopping.set()
            worker.join()


def statuses(events: Path) -> Counter[int]:
    """Of all answers in a report."""
    with events.open() as lines:
        return Counter(status for line in lines for status in statuses_in(json.loads(line)))


def statuses_in(event: Any) -> Iterator[int]:
    if isinstance(event, dict):
        if "status_code" in event and "elapsed" in event:
            yield event["status_code"]
        event = list(event.values())
    if isinstance(event, list):
        for each in event:
            yield from statuses_in(each)
