"""The serving road as real processes, to be killed, stopped and cut off from each other.

    with Service(home, links=True) as service:
        with service.programs.down("worker"):
            ...
        with service.to_triton.toxic(latency(2)):
            ...

It is put together from the parts of `deploy.stack`, which itself starts one of everything with the settings of a laptop: a drill
takes several workers, short leases, and proxies between the parts.
"""

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, Self

import psutil

from deploy.stack import HOST, REPOSITORY, answers, asked, export, free_ports, newest_release, redis_program
from deploy.supervisor import Program, Supervisor
from shared.queue_upkeep import UpkeepQueue
from shared.redis_users import USERS, acl_file, url_of
from shared.videos import Videos
from tests.chaos.faultproxy import FaultProxy

STARTS_WITHIN_S: Final = 300.0
REDIS_STARTS_WITHIN_S: Final = 20.0
DRILL: Final = "drill"
"""A user of Redis who may do everything, without a password. The services have their own."""


class Service:
    """Redis, Triton, the gateway and workers. Up inside the `with`; leaves no process behind."""

    def __init__(
        self,
        home: Path,
        *,
        models: Path,
        workers: int = 1,
        triton: bool = True,
        links: bool = False,
        settings: Mapping[str, str] | None = None,
        worker: tuple[str, ...] = ("-m", "services.preprocess"),
    ) -> None:
        """
        models: a model repository, see `model_repository`.
        links: whether the parts reach Redis and Triton through proxies.
        settings: environment variables of gateway and workers, beside those that say who is where.
        worker: what Python is told to run as a worker.
        """
        self.home = home
        self.data = home / "data"
        self.url = self.redis_url = ""
        self.to_redis: FaultProxy
        self.to_triton: FaultProxy
        self.programs = Supervisor(logs=home / "logs", directory=REPOSITORY, announce=say_nothing)
        self._models = models
        self._workers = ["worker", *(f"worker-{number}" for number in range(2, workers + 1))][:workers]
        self._triton = triton
        self._links = links
        self._settings = dict(settings or {})
        self._worker = worker
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            self.home.mkdir(parents=True, exist_ok=True)
            opening.enter_context(self.programs)
            self._start(opening)
            self.programs.revive()
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def videos(self) -> Videos:
        return Videos(self.data)

    @contextmanager
    def upkeep(self) -> Iterator[UpkeepQueue]:
        queue = UpkeepQueue(self.redis_url)
        try:
            yield queue
        finally:
            queue.close()

    def readiness(self) -> tuple[int, str]:
        """The status of /readyz and the dependencies that it blames; 0 while nobody answers."""
        answer = asked(f"{self.url}/readyz")
        if answer is None:
            return 0, ""
        return answer.status_code, "" if answer.is_success else str(answer.json().get("dependency", ""))

    def is_ready(self) -> bool:
        return self.readiness()[0] == 200

    def freeze(self, name: str) -> None:
        """SIGSTOP a program with everything that it started."""
        self._signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self._signal(name, signal.SIGCONT)

    def processes(self, name: str) -> list[psutil.Process]:
        """A program and everything that it started."""
        process = psutil.Process(self.programs.pid(name))
        return [process, *process.children(recursive=True)]

    def _signal(self, name: str, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.programs.pid(name), number)

    def _start(self, opening: ExitStack) -> None:
        redis_port, grpc_port, http_port, metrics_port, gateway_port, *worker_ports = free_ports(5 + len(self._workers))
        self.url = f"http://{HOST}:{gateway_port}"
        self.redis_url = url_of(DRILL, "none", host=HOST, port=redis_port)
        passwords = dict.fromkeys(USERS, "secret")
        seen_redis, seen_grpc = redis_port, grpc_port
        if self._links:
            self.to_redis = opening.enter_context(FaultProxy(to_port=redis_port))
            self.to_triton = opening.enter_context(FaultProxy(to_port=grpc_port))
            seen_redis, seen_grpc = self.to_redis.port, self.to_triton.port
        users = acl_file(passwords) + f"user {DRILL} on nopass ~* &* +@all\n"
        self.programs.start(redis_program(home=self.home / "redis", port=redis_port, users=users))
        self.programs.wait("redis", lambda: answers(self.redis_url), timeout_s=REDIS_STARTS_WITHIN_S)
        urls = {name: url_of(name, password, host=HOST, port=seen_redis) for name, password in passwords.items()}
        environment = {
            "MIEN_DATA": str(self.data),
            "MIEN_MODELS": str(self._models),
            "MIEN_TRITON_GRPC": f"{HOST}:{seen_grpc}",
            "MIEN_TRITON_HTTP": f"http://{HOST}:{http_port}",
            "MIEN_HOST": HOST,
            "MIEN_PORT": str(gateway_port),
            "PYTHONUNBUFFERED": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            **self._settings,
        }
        ports = ["--grpc-port", str(grpc_port), "--http-port", str(http_port), "--metrics-port", str(metrics_port)]
        server = ("-m", "deploy.triton", "--models", str(self._models), "--state", str(self._models.parent / "triton"), *ports)
        if self._triton:
            self._run("triton", server, environment)
        self._run("gateway", ("-m", "services.gateway"), {**environment, "MIEN_REDIS_URL": urls["gateway"]})
        for name, port in zip(self._workers, worker_ports, strict=True):
            self._run(name, self._worker, {**environment, "MIEN_REDIS_URL": urls["worker"], "MIEN_METRICS_PORT": str(port)})
        addresses = [f"{self.url}/healthz", *(f"http://{HOST}:{port}/metrics" for port in worker_ports)]
        if self._triton:
            addresses.append(f"http://{HOST}:{http_port}/v2/health/ready")
        self.programs.wait("the service", lambda: all(is_answered(address) for address in addresses), timeout_s=STARTS_WITHIN_S)

    def _run(self, name: str, arguments: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self.programs.start(Program(name=name, command=[sys.executable, *arguments], environment=environment, grace_s=30))


def say_nothing(_: str) -> None:
    """A drill expects what the supervisor would announce."""


def is_answered(url: str) -> bool:
    answer = asked(url)
    return answer is not None and answer.is_success


def model_repository(home: Path) -> Path:
    """The release that ships with the repository, as Triton serves it; built once."""
    models = home / "models"
    export(newest_release(), models=models, log=home / "export.log", announce=say_nothing)
    return models
