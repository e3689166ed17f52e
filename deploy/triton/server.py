"""Finds the `tritonserver` that ships in the nvidia-pytriton wheel and says how it must be started.

The wheel has Triton's Python backend but not its libtorch one. Triton also takes a backend that is written in Python: a folder
of the backend's name with a `model.py`, beside the Python backend. So a folder is put together, of copies (Triton refuses links
that lead out of it; 3 MB), and nothing is written into the wheel:

    <state>/backends-<digest>/
      python/   libtriton_python.so, triton_python_backend_utils.py      from the wheel
                triton_python_backend_stub                               from the wheel, the one for this Python
      pytorch/  model.py                                                 from backends/pytorch/ beside this file

and a model repository made for NVIDIA's image (`backend: "pytorch"`) is served from it byte for byte.
"""

import ctypes
import hashlib
import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from shared.releases import CONTROL_HEADER, GRAPHS, model_name, published

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTORCH_BACKEND = Path(__file__).parent / "backends" / "pytorch" / "model.py"
THREADS_VARIABLE = "MIEN_TRITON_THREADS"
"""Tells the backend, which Triton starts, how many threads one model may use."""

CONTROL_VARIABLE = "MIEN_TRITON_SECRET"
"""Tells the secret of the control API to the server and to whoever may know it."""

EXIT_TIMEOUT_S = 10
"""How long requests and the models' processes may take to end once the server was told to stop. It waits no longer than they need."""
CONTROL_APIS = ("metadata", "model-repository", "model-config", "statistics", "shared-memory", "trace", "logging")
"""What only whoever publishes may ask, in Triton's words: all but `inference` and `health`."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (where Linux keeps it; Triton chooses the names)
FIRST_SHARED_MEMORY_BYTES = 16 * 2**20
"""Shared memory between Triton and one model: room for two batches of 16 faces of 224 px, so that it need not grow while serving."""


class TritonMissing(RuntimeError):
    """This machine cannot run tritonserver; the message says what to install."""


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """The parts of Triton in an installed nvidia-pytriton."""

    root: Path
    """The folder `pytriton/tritonserver`."""
    libraries: Path
    """Triton's own shared libraries."""

    @property
    def binary(self) -> Path:
        return self.root / "bin" / "tritonserver"

    @property
    def stub(self) -> Path:
        """The program that Triton starts for each Python model, linked to this version of Python."""
        return self.root / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one server serves, and where it listens."""

    models: Path
    """The model repository."""
    grpc_port: int
    http_port: int
    metrics_port: int
    host: str = "127.0.0.1"
    """Triton knows no users: whoever reaches it may load and unload models, unless there is a secret."""
    threads: int
    """Threads of one model, in its matrix multiplications."""
    exit_timeout_s: int = EXIT_TIMEOUT_S
    secret: str = field(default="", repr=False)
    """Without it nothing is answered but inference and health; empty to answer everybody."""


def find_wheel() -> Wheel:
    """The installed wheel. Raises TritonMissing when there is none, or none for this Python."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise TritonMissing("tritonserver is not installed: install the dependency group `machine` (it ships in nvidia-pytriton)")
    package = Path(spec.origin).parent
    wheel = Wheel(root=package / "tritonserver", libraries=package.parent / "nvidia_pytriton.libs")
    for path in (wheel.binary, wheel.stub, wheel.libraries):
        if not path.exists():
            raise TritonMissing(f"the installed nvidia-pytriton has no {path.name} for Python {PYTHON} on this machine")
    return wheel


def find_libpython() -> Path | None:
    """The folder of the interpreter's libpython, which the stub is linked to, or None where the system's loader finds it.

    Raises TritonMissing when there is none.
    """
    name = f"libpython{PYTHON}.so.1.0"
    folder = Path(str(sysconfig.get_config_var("LIBDIR")))
    if (folder / name).exists():
        return folder
    try:
        ctypes.CDLL(name)
    except OSError:
        raise TritonMissing(
            f"{name} is missing: Triton's Python stub is linked to it. On Debian and Ubuntu: apt-get install libpython{PYTHON}."
            " With pyenv: install Python with PYTHON_CONFIGURE_OPTS=--enable-shared. Pythons installed by uv have it."
        ) from None
    return None


def assemble_backends(wheel: Wheel, state: Path) -> Path:
    """Put the backend folder together under `state` and return it; it appears whole, and once for the same contents."""
    sources = {"python/triton_python_backend_stub": wheel.stub, "pytorch/model.py": PYTORCH_BACKEND}
    sources |= {f"python/{path.name}": path for path in (wheel.root / "backends" / "python").iterdir() if path.suffix in {".so", ".py"}}
    digest = hashlib.sha256(b"".join(name.encode() + path.read_bytes() for name, path in sorted(sources.items()))).hexdigest()
    folder = state.absolute() / f"backends-{digest[:12]}"
    if not folder.exists():
        state.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=state) as aside:
            for name, path in sources.items():
                (Path(aside) / "backends" / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, Path(aside) / "backends" / name)
            _move_unless_there(Path(aside) / "backends", folder)
    return folder


def _move_unless_there(source: Path, target: Path) -> None:
    """Rename a folder; another process that put the same one there first has done the work."""
    try:
        source.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def command(settings: Settings, *, wheel: Wheel, backends: Path) -> list[str]:
    """The whole command line of tritonserver.

    Models are named, not `--load-model=*`: that tries every folder of the repository, and a release's own folder is not a model.
    A release that cannot be loaded is an error in the log, never a server that does not start: the others must go on serving.
    Completing configs is off because the exporter writes them in full, and it would start each model's process twice.
    """
    return [
        str(wheel.binary),
        f"--model-repository={settings.models.absolute()}",
        f"--backend-directory={backends}",
        f"--backend-config=python,shm-default-byte-size={FIRST_SHARED_MEMORY_BYTES}",
        f"--backend-config=python,shm-region-prefix-name={_region_prefix(os.getpid())}",
        "--model-control-mode=explicit",
        *(f"--load-model={model_name(version, graph)}" for version in published(settings.models) for graph in GRAPHS),
        "--exit-on-error=false",
        "--strict-readiness=false",
        "--disable-auto-complete-config",
        f"--exit-timeout-secs={settings.exit_timeout_s}",
        f"--grpc-address={settings.host}",
        f"--grpc-port={settings.grpc_port}",
        f"--http-address={settings.host}",
        f"--http-port={settings.http_port}",
        f"--metrics-address={settings.host}",
        f"--metrics-port={settings.metrics_port}",
        "--allow-gpu-metrics=false",
        *(_restrictions(settings.secret) if settings.secret else ()),
    ]


def _restrictions(secret: str) -> tuple[str, str]:
    """Triton takes a secret on its command line only, where programs of this machine can read it: it keeps out who can be tricked
    into sending a request, not who can look at processes. Where that matters, a proxy stands before Triton, see deploy/compose.
    """
    rule = f"{','.join(CONTROL_APIS)}:{CONTROL_HEADER}={secret}"
    return f"--http-restricted-api={rule}", f"--grpc-restricted-protocol={rule}"


def remove_stale_memory(folder: Path = SHARED_MEMORY) -> None:
    """Give back the shared memory of servers that were killed: it would stay in RAM until the machine restarts."""
    for region in folder.glob(_region_prefix("*") + "*"):
        pid = region.name.split("-")[1]
        if pid.isdigit() and region.stat().st_uid == os.getuid() and not Path("/proc", pid).exists():
            region.unlink(missing_ok=True)


def _region_prefix(pid: object) -> str:
    """How the names of a server's shared memory begin. The server keeps the process id of the command that becomes it."""
    return f"mien-{pid}-"


def environment(base: Mapping[str, str], settings: Settings, *, wheel: Wheel, libpython: Path | None) -> dict[str, str]:
    """The environment of tritonserver and its stubs.

    The wheel's libraries find each other by their place in the wheel, which the copies have lost, so it is named. The stub embeds
    Python, which takes the first `python3` on the PATH for itself: with this environment's first, it sees what is installed here.

    OpenMP's threads wait asleep. By default they spin, which pays on idle cores only: beside other busy processes on two cores it
    made the same graph 3 to 18 times slower (224 px: 8 frames/s spinning, 28 asleep; 64 px: 44 and 807).
    """
    kept = {name: value for name, value in base.items() if name != CONTROL_VARIABLE}
    libraries = [str(wheel.libraries), *([str(libpython)] if libpython else []), base.get("LD_LIBRARY_PATH", "")]
    return {
        **kept,
        "LD_LIBRARY_PATH": ":".join(filter(None, libraries)),
        "PATH": f"{Path(sys.prefix) / 'bin'}:{base.get('PATH', os.defpath)}",
        "OMP_WAIT_POLICY": base.get("OMP_WAIT_POLICY", "PASSIVE"),
        THREADS_VARIABLE: str(settings.threads),
    }
