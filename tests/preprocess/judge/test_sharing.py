"""Two workers' classifiers at one Triton, whose release is configured as every published one is."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import numpy as np
import pytest

from services.preprocess.judge.classifier import IN_FLIGHT, Classifier
from shared.releases import Release
from tests.triton_server import Triton

FACES_PER_REQUEST = (16, 15)
"""Of each worker. A batch of 31, say, holds requests of both: no number of requests of one alone makes 31."""
MIXED = {ours + theirs for ours in range(16, 64, 16) for theirs in range(15, 64, 15)}
SHARED_WITHIN_S = 120.0


@pytest.fixture
def workers(triton: Triton) -> Iterator[list[Classifier]]:
    with ExitStack() as open_ones:
        yield [open_ones.enter_context(Classifier(url=triton.grpc, batch=faces)) for faces in FACES_PER_REQUEST]


def test_requests_of_two_workers_run_as_one_batch_and_each_gets_its_own_answer(triton: Triton, workers: list[Classifier]) -> None:
    release = triton.release()
    random = np.random.default_rng(0)
    faces = [random.integers(0, 256, (IN_FLIGHT * each, 9, release.size, release.size), np.uint8) for each in FACES_PER_REQUEST]
    alone = [worker.encode(release, own).features for worker, own in zip(workers, faces, strict=True)]
    start = threading.Barrier(len(workers))

    def encoded(worker: Classifier, own: np.ndarray) -> np.ndarray:
        start.wait(SHARED_WITHIN_S)
        return worker.encode(release, own).features

    deadline = time.monotonic() + SHARED_WITHIN_S
    with ThreadPoolExecutor(len(workers)) as pool:
        while not batch_sizes(triton, release) & MIXED:
            assert time.monotonic() < deadline, f"no batch of both among those of {sorted(batch_sizes(triton, release))}"
            for features, expected in zip(pool.map(encoded, workers, faces), alone, strict=True):
                np.testing.assert_allclose(features, expected, atol=1e-4)
    requests, executions = counts(triton, release)
    assert executions < requests


def batch_sizes(triton: Triton, release: Release) -> set[int]:
    """Of every execution of the frame graph since it was loaded."""
    return {int(batch["batch_size"]) for batch in statistics(triton, release)["batch_stats"]}


def counts(triton: Triton, release: Release) -> tuple[int, int]:
    """Requests answered, and executions of the frame graph."""
    told = statistics(triton, release)
    return int(told["inference_stats"]["success"]["count"]), int(told["execution_count"])


def statistics(triton: Triton, release: Release) -> dict:
    (told,) = httpx.get(f"{triton.http}/v2/models/{release.model('frames')}/stats").json()["model_stats"]
    return told
