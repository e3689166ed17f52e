"""A whole gateway per test: real uvicorn on a free port, real Redis, real files; only Triton's readiness is played."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from services.gateway.app import create_app
from services.gateway.published import Models
from services.gateway.uploads import UploadLimits
from services.gateway.webhooks.courier import Terms
from services.gateway.webhooks.egress import Egress
from services.web.guard import Guard
from services.web.patience import PATIENCE, Patience
from shared.jobs import Timings
from shared.queue import GatewayQueue, Lease, Limits, WorkerQueue
from shared.releases import GRAPHS, model_name
from shared.results import Result
from shared.signatures import TrustedKeys
from shared.tracing import Tracing
from shared.videos import Videos
from tests.web_server import Listening, listening

MAX_BYTES = 4 * 1024 * 1024
VIDEO = b"\x00\x00\x00\x18ftypmp42 not a video, and the gateway does not look"
RAW = {"Content-Type": "video/mp4"}


class FakeTriton:
    """Answers Triton's readiness question, for the models that it was told are READY."""

    def load(self, version: int) -> None:
        self.ready |= {model_name(version, graph) for graph in GRAPHS}

    def __init__(self) -> None:
        self.ready: set[str] = set()
        self.hang = threading.Event()
        self.broken = threading.Event()
        """Somebody in front of it answers in its place."""
        triton = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if triton.hang.is_set():
                    time.sleep(3)
                name = self.path.removeprefix("/v2/models/").removesuffix("/ready")
                self.send_response(503 if triton.broken.is_set() else 200 if name in triton.ready else 400)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's name
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> "FakeTriton":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """A running gateway, seen from outside and from behind."""

    app: FastAPI
    service: Listening
    data: Path
    models: Path
    http: httpx.Client
    worker: WorkerQueue
    triton: FakeTriton

    def post(self, content: bytes = VIDEO, **params: Any) -> dict[str, Any]:
        """An accepted analysis."""
        response = self.http.post("/v1/analyses", content=content, headers=RAW, params=params)
        assert response.status_code == 202, response.text
        body: dict[str, Any] = response.json()
        return body

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        response = self.http.get(path, params=params)
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    def claim(self) -> Lease:
        lease = self.worker.claim()
        assert lease is not None
        return lease

    def succeed(self, found: Result | None = None) -> Lease:
        """Claim the next job, and end it, with a result where one is given."""
        lease = self.claim()
        if found is not None:
            Videos(self.data).write_result(found, lease.token)
        assert self.worker.succeed(lease, Timings(total=5))
        return lease

    def files(self) -> list[str]:
        """Everything on the disk, by relative path."""
        return sorted(str(path.relative_to(self.data)) for path in self.data.rglob("*") if path.is_file())

    def settles_to_nothing(self) -> bool:
        """Whether no file and no job is left, at the latest in a moment."""
        return soon(lambda: not self.files() and not self.get("/v1/analyses")["analyses"])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.service.port), timeout=10)

    def raw(self, *pieces: bytes) -> tuple[int, str]:
        """Send bytes as they are: the status of the answer, and its headers and body as text."""
        with self.connect() as connection:
            for piece in pieces:
                connection.sendall(piece)
            return read_answer(connection)


def read_answer(connection: socket.socket) -> tuple[int, str]:
    """The next response on a connection: its status, and its headers and body as text."""
    response = HTTPResponse(connection)
    response.begin()
    return response.status, f"{response.headers}{response.read().decode()}"


def soon(condition: Callable[[], bool], *, within_s: float = 5) -> bool:
    """Whether it holds, at the latest after that time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def wait_until(condition: Callable[[], bool]) -> None:
    assert soon(condition)


@contextmanager
def running(
    *,
    redis_url: str,
    data: Path,
    limits: UploadLimits,
    trusted: TrustedKeys | None = None,
    guard: Guard | None = None,
    queue_limits: Limits = Limits(),  # noqa: B008 - frozen
    patience: Patience = PATIENCE,
    egress: Egress | None = None,
    terms: Terms = Terms(),  # noqa: B008 - frozen
    tracing: Tracing | None = None,
) -> Iterator[Gateway]:
    """Without a guard, everybody may do everything."""
    with FakeTriton() as triton:
        models = data.parent / "models"
        app = create_app(
            queue=GatewayQueue(redis_url, limits=queue_limits),
            videos=Videos(data),
            models=Models(models, trusted=trusted),
            triton_http=triton.url,
            limits=limits,
            guard=guard or Guard(),
            egress=egress,
            terms=terms,
            tracing=tracing,
        )
        worker = WorkerQueue(redis_url)
        worker.setup()
        # Plain HTTP: certificates that are not loaded save 50 ms per test.
        with (
            listening(app, patience=patience) as service,
            httpx.Client(base_url=service.url, timeout=20, trust_env=False, verify=False) as http,  # noqa: S501
            closing(worker),
        ):
            yield Gateway(app=app, service=service, data=data, models=models, http=http, worker=worker, triton=triton)


@pytest.fixture
def gateway(redis_url: str, tmp_path: Path) -> Iterator[Gateway]:
    with running(redis_url=redis_url, data=tmp_path / "data", limits=UploadLimits(max_bytes=MAX_BYTES)) as gateway:
        yield gateway


@pytest.fixture
def hasty_gateway(redis_url: str, tmp_path: Path) -> Iterator[Gateway]:
    """One that loses patience with slow uploads in a fraction of a second."""
    limits = UploadLimits(max_bytes=MAX_BYTES, grace_s=0.3, idle_s=0.6)
    with running(redis_url=redis_url, data=tmp_path / "data", limits=limits) as gateway:
        yield gateway


@pytest.fixture
def frail_gateway(redis_server: Any, tmp_path: Path) -> Iterator[Gateway]:
    """One with a Redis of its own, to be killed."""
    with running(redis_url=redis_server.url, data=tmp_path / "data", limits=UploadLimits(max_bytes=MAX_BYTES)) as gateway:
        yield gateway


@pytest.fixture
def lasting_gateway(gateway_of_a_file: Gateway, redis_url: str) -> Gateway:
    """One for all tests of a file that leave nothing behind, which saves starting it for each."""
    return gateway_of_a_file


@pytest.fixture(scope="module")
def gateway_of_a_file(shared_redis: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    data = tmp_path_factory.mktemp("data")
    with running(redis_url=shared_redis.url, data=data, limits=UploadLimits(max_bytes=MAX_BYTES)) as gateway:
        yield gateway
