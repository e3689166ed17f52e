"""The eager network, its TorchScript and Triton give the same numbers, whatever the batch and the length of the clip."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from services.preprocess.judge.classifier import Classifier, softmax
from shared.releases import Release
from tests.triton_server import Triton
from training.export import WEIGHTS, read_release_network
from training.graphs import torchscript
from training.network import Network

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def release(triton: Triton) -> Release:
    return triton.release()


@pytest.fixture(scope="module")
def network(triton: Triton, release: Release) -> Network:
    return read_release_network(release, triton.models / release.name / WEIGHTS)


@pytest.fixture(scope="module")
def classifier(triton: Triton) -> Iterator[Classifier]:
    with Classifier(url=triton.grpc) as connection:
        yield connection


def graph(triton: Triton, name: str) -> torch.jit.ScriptModule:
    with torchscript():
        return torch.jit.load(str(triton.models / name / "1" / "model.pt"))


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_frames(triton: Triton, release: Release, network: Network, classifier: Classifier, batch: int) -> None:
    faces = np.random.default_rng(batch).integers(0, 256, (batch, 9, release.size, release.size), dtype=np.uint8)
    with torch.inference_mode():
        eager = [output.numpy() for output in network.encoder(torch.from_numpy(faces))]
        scripted = [output.numpy() for output in graph(triton, release.model("frames"))(torch.from_numpy(faces))]
    served = classifier.encode(release, faces)
    assert scripted[2].shape == (batch, 3, release.size // 8, release.size // 8)
    for expected, actual in zip(eager, scripted, strict=True):
        np.testing.assert_allclose(actual, expected, atol=TOLERANCE)
    np.testing.assert_allclose(served.features, eager[0], atol=TOLERANCE)
    np.testing.assert_allclose(served.region_weights, eager[1], atol=TOLERANCE)


@pytest.mark.parametrize("frames", [1, 5, 40])
@pytest.mark.parametrize("batch", [1, 3, 16])
def test_clips(triton: Triton, release: Release, network: Network, classifier: Classifier, batch: int, frames: int) -> None:
    random = np.random.default_rng(batch * 100 + frames)
    features = random.normal(size=(batch, frames, release.feature_size)).astype(np.float32)
    lengths = random.integers(1, frames + 1, size=batch)
    mask = (np.arange(frames) < lengths[:, None]).astype(np.float32)
    with torch.inference_mode():
        inputs = torch.from_numpy(features), torch.from_numpy(mask)
        logits, weights = (output.numpy() for output in network.clip(*inputs))
        scripted_logits, scripted_weights = (output.numpy() for output in graph(triton, release.model("clip"))(*inputs))
    served = classifier.judge(release, features, mask)
    np.testing.assert_allclose(scripted_logits, logits, atol=TOLERANCE)
    np.testing.assert_allclose(scripted_weights, weights, atol=TOLERANCE)
    np.testing.assert_allclose(served.scores, softmax(logits), atol=TOLERANCE)
    np.testing.assert_allclose(served.frame_weights, weights, atol=TOLERANCE)
    assert (served.frame_weights[mask == 0] == 0).all()


def test_more_faces_than_a_batch_come_back_in_order(release: Release, network: Network, classifier: Classifier) -> None:
    faces = np.random.default_rng(0).integers(0, 256, (101, 9, release.size, release.size), dtype=np.uint8)
    with torch.inference_mode():
        expected = network.encoder(torch.from_numpy(faces))[0].numpy()
    np.testing.assert_allclose(classifier.encode(release, faces).features, expected, atol=TOLERANCE)


def test_the_served_files_are_the_published_ones(triton: Triton, release: Release) -> None:
    for model in ("frames", "clip"):
        assert Path(triton.models / release.model(model)).resolve() == (triton.models / release.name / model).resolve()
