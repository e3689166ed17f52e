"""Faces per second through Triton, as a share of the same TorchScript in this process."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from deploy.stack import free_ports, newest_release
from services.preprocess.classifier import Classifier
from shared import releases
from shared.expressions import REGIONS
from tests.bench.figures import Figure
from training.export import export

FACES = 512
BATCH = 16
ROUNDS = 5
AIM = 0.9


def run(home: Path, video: Path) -> list[Figure]:
    """The shipped release, batch 16, both ways alternately with as many threads."""
    models = home / "models"
    models.mkdir(parents=True)
    export(newest_release(), models)
    release = releases.load(models, releases.published(models)[-1])
    faces = np.random.default_rng(1).integers(0, 256, (FACES, 3 * len(REGIONS), release.size, release.size), dtype=np.uint8)
    in_process = in_process_way(models / release.name / "frames" / "1" / "model.pt")
    grpc, http, metrics = free_ports(3)
    ports = ["--grpc-port", str(grpc), "--http-port", str(http), "--metrics-port", str(metrics)]
    command = [sys.executable, "-m", "deploy.triton", "--models", str(models), "--state", str(home / "triton"), *ports]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            with Classifier(url=f"127.0.0.1:{grpc}", batch=BATCH) as classifier:
                wait_until(lambda: classifier.ready(release), timeout_s=120)
                rates = [
                    (rate(lambda: classifier.encode(release, faces)), rate(lambda: in_process(faces)))
                    for _ in range(1 + ROUNDS)  # the first one warms both
                ][1:]
        finally:
            server.terminate()
    share = statistics.median(through / here for through, here in rates)
    return [
        figure(f"batches of {BATCH}, S={release.size}, in this process", statistics.median(here for _, here in rates), "faces/s"),
        figure(f"batches of {BATCH}, S={release.size}, through Triton", statistics.median(through for through, _ in rates), "faces/s"),
        Figure(bench="triton", name="share of the in-process rate", value=share, unit="x", aim=f"at least {AIM}", reached=share >= AIM),
    ]


def figure(name: str, value: float, unit: str) -> Figure:
    return Figure(bench="triton", name=name, value=value, unit=unit)


def in_process_way(model: Path) -> Callable[[np.ndarray], None]:
    graph = torch.jit.load(str(model)).eval()

    @torch.inference_mode()
    def encode(faces: np.ndarray) -> None:
        for group in torch.from_numpy(faces).split(BATCH):
            graph(group)

    return encode


def rate(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return FACES / (time.monotonic() - began)


def wait_until(ready: Callable[[], bool], *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError("tritonserver was not ready in time")
        time.sleep(0.2)
