"""Faces per second through Triton, as a share of the same TorchScript in this process."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from deploy.stack import free_ports, newest_release
from services.preprocess.judge.classifier import Classifier
from shared import releases
from shared.expressions import REGIONS
from tests.bench.figures import Figure
from tests.random_release import write_random_release
from training.export import export
from training.graphs import torchscript

BATCH = 16
AIM = 0.9


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is measured: a release, and how much of it."""

    weights: Path
    faces: int
    rounds: int


def run(home: Path, video: Path) -> list[Figure]:
    """The shipped release and one of the paper's size of face, both ways alternately."""
    compact_224 = write_random_release(home / "000224", size=224, width=0.5)
    loads = (Load(weights=newest_release(), faces=512, rounds=9), Load(weights=compact_224, faces=96, rounds=3))
    return [line for number, load in enumerate(loads) for line in measure(load, home / str(number))]


def measure(load: Load, home: Path) -> list[Figure]:
    models = home / "models"
    models.mkdir(parents=True)
    export(load.weights, models)
    release = releases.load(models, releases.published(models)[-1])
    faces = np.random.default_rng(1).integers(0, 256, (load.faces, 3 * len(REGIONS), release.size, release.size), dtype=np.uint8)
    in_process = in_process_way(models / release.name / "frames" / "1" / "model.pt")
    with served(models, state=home / "triton") as url, Classifier(url=url, batch=BATCH) as classifier:
        wait_until(lambda: classifier.ready(release), timeout_s=120)
        rates = [
            (rate(faces, lambda: classifier.encode(release, faces)), rate(faces, lambda: in_process(faces)))
            for _ in range(1 + load.rounds)  # the first one warms both
        ][1:]
    share = statistics.median(through / here for through, here in rates)
    what = f"batches of {BATCH}, S={release.size}, width {release.width:g}"
    return [
        figure(f"{what}, in this process", statistics.median(here for _, here in rates), "faces/s"),
        figure(f"{what}, through Triton", statistics.median(through for through, _ in rates), "faces/s"),
        Figure(bench="triton", name=f"{what}, share", value=share, unit="x", aim=f"at least {AIM}", reached=share >= AIM),
    ]


@contextmanager
def served(models: Path, *, state: Path) -> Iterator[str]:
    """A tritonserver of its own; its gRPC address."""
    grpc, http, metrics = free_ports(3)
    ports = ["--grpc-port", str(grpc), "--http-port", str(http), "--metrics-port", str(metrics)]
    command = [sys.executable, "-m", "deploy.triton", "--models", str(models), "--state", str(state), *ports]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            yield f"127.0.0.1:{grpc}"
        finally:
            server.terminate()


def figure(name: str, value: float, unit: str) -> Figure:
    return Figure(bench="triton", name=name, value=value, unit=unit)


def in_process_way(model: Path) -> Callable[[np.ndarray], None]:
    with torchscript():
        graph = torch.jit.load(str(model)).eval()

    @torch.inference_mode()
    def encode(faces: np.ndarray) -> None:
        for group in torch.from_numpy(faces).split(BATCH):
            graph(group)

    return encode


def rate(faces: np.ndarray, work: Callable[[], object]) -> float:
    """Faces per second."""
    began = time.monotonic()
    work()
    return len(faces) / (time.monotonic() - began)


def wait_until(ready: Callable[[], bool], *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError("tritonserver was not ready in time")
        time.sleep(0.2)
