"""A whole training service per test: a process on a free port, real folders, real training processes under it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import free_port
from tests.tiny_runs import environment, write_crops
from training.publications import Publications
from training.runs import Runs

STARTS_WITHIN_S = 60
ENDS_WITHIN_S = 180


class Service:
    """A training service that can be started, killed and started again."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.port = free_port()
        self.runs = Runs(home / "runs", models=home / "models")
        self.publications = Publications(home / "runs")
        self.environment = environment(home, **{"MIEN_TRAINING_PORT": str(self.port), "MIEN_REDIS_URL": "redis://127.0.0.1:1", **settings})
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60, trust_env=False)
        self.log = home / "service.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.training"], env=self.environment, stdout=output, stderr=subprocess.STDOUT
            )
        until(self.answers, within_s=STARTS_WITHIN_S)

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.http.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> float:
        """SIGTERM; the seconds that it took to end."""
        assert self.process is not None
        began = time.monotonic()
        self.process.terminate()
        self.process.wait(60)
        return time.monotonic() - began

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def working(self, module: str = "training") -> list[psutil.Process]:
        """The processes that work for this service, or worked for one that was killed."""
        found = []
        for process in psutil.process_iter(["cmdline", "environ"]):
            command, settings = process.info["cmdline"] or [], process.info["environ"] or {}
            if settings.get("MIEN_RUNS") == str(self.runs.root) and module_of(command) == module:
                found.append(process)
        return found

    def clean_up(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()
        for process in self.working():
            process.send_signal(signal.SIGKILL)
        self.http.close()

    # --- what clients do ---------------------------------------------------------------------------------------------

    def get(self, path: str, **params: Any) -> Any:
        response = self.http.get(path, params=params)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, path: str, body: Any = None, *, status: int = 200, **headers: str) -> Any:
        response = self.http.post(path, json=body, headers=headers)
        assert response.status_code == status, response.text
        return response.json()

    def submit(self, plan: Any, **headers: str) -> str:
        """The id of an accepted run."""
        run_id: str = self.post("/v1/runs", json.loads(plan.model_dump_json(exclude_defaults=True)), status=202, **headers)["id"]
        return run_id

    def ended(self, path: str) -> Any:
        """A run or publication, once it has ended."""
        until(lambda: self.get(path)["state"] in {"succeeded", "failed", "canceled"})
        return self.get(path)

    def events(self, run_id: str, **headers: str) -> Iterator[tuple[str, str, Any]]:
        """Event, id and data of everything that is told until the stream ends."""
        with self.http.stream("GET", f"/v1/runs/{run_id}/events", headers=headers, timeout=ENDS_WITHIN_S) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            fields: dict[str, str] = {}
            for line in response.iter_lines():
                name, _, value = line.partition(": ")
                if name in {"event", "id", "data"}:
                    fields[name] = value
                elif not line and fields:
                    yield fields["event"], fields["id"], json.loads(fields["data"])
                    fields = {}


def module_of(command: list[str]) -> str:
    """What a Python process was started with; torchrun gives it options before that."""
    return command[command.index("-m") + 1] if "-m" in command[:3] else ""


def until(condition: Callable[[], bool], *, within_s: float = ENDS_WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def running(home: Path, **settings: str) -> Iterator[Service]:
    write_crops(home / "crops")
    service = Service(home, **settings)
    try:
        service.start()
        yield service
    finally:
        service.clean_up()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running(tmp_path) as service:
        yield service


@pytest.fixture(scope="module")
def lasting_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One for all tests of a file; no training is wanted of it."""
    with running(tmp_path_factory.mktemp("service")) as service:
        yield service
