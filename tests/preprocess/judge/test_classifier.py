"""The client against a real Triton: its answers, and every way in which Triton can fail to give one."""

import shutil
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import torch

from services.preprocess.judge.classifier import Classifier, Encoded, Judged, softmax
from shared.errors import InferenceInvalidOutput, InferenceRejected, InferenceUnavailable
from shared.releases import Release, model_name
from tests.triton_server import Triton
from training.graphs import torchscript

BAD_VERSION = 666
GOOD, NAN, WRONG_SHAPE, WRONG_TYPE, WRONG_SUM = range(5)


@pytest.fixture(scope="module")
def classifier(triton: Triton) -> Iterator[Classifier]:
    with Classifier(url=triton.grpc) as connection:
        yield connection


@pytest.fixture(scope="module")
def release(triton: Triton) -> Release:
    return triton.release()


def faces(release: Release, count: int) -> np.ndarray:
    return np.zeros((count, 9, release.size, release.size), np.uint8)


def test_no_faces_and_no_clips_need_no_answer(classifier: Classifier, release: Release) -> None:
    encoded = classifier.encode(release, faces(release, 0))
    assert encoded.features.shape == (0, release.feature_size)
    judged = classifier.judge(release, np.zeros((0, 4, release.feature_size), np.float32), np.zeros((0, 4), np.float32))
    assert judged.scores.shape == (0, 7)
    assert judged.frame_weights.shape == (0, 4)


def test_scores_sum_to_one(classifier: Classifier, release: Release) -> None:
    features = np.random.default_rng(0).normal(size=(20, 5, release.feature_size)).astype(np.float32)
    judged = classifier.judge(release, features, np.ones((20, 5), np.float32))
    np.testing.assert_allclose(judged.scores.sum(axis=1), 1, atol=1e-12)


def test_a_clip_longer_than_grpcs_own_limit_of_4_mb(classifier: Classifier, release: Release) -> None:
    frames = 6 * 2**20 // (4 * release.feature_size)
    judged = classifier.judge(release, np.ones((1, frames, release.feature_size), np.float32), np.ones((1, frames), np.float32))
    assert judged.frame_weights.shape == (1, frames)


def test_ready_names_the_release_that_is_loaded(classifier: Classifier, release: Release) -> None:
    assert classifier.ready(release)
    assert not classifier.ready(release.model_copy(update={"version": 999}))


def test_a_release_that_is_not_loaded_is_unavailable(classifier: Classifier, release: Release) -> None:
    with pytest.raises(InferenceUnavailable):
        classifier.encode(release.model_copy(update={"version": 999}), faces(release, 1))


def test_nobody_listening_is_unavailable_at_once(release: Release) -> None:
    began = time.monotonic()
    with Classifier(url="127.0.0.1:1") as classifier:
        assert not classifier.ready(release)
        with pytest.raises(InferenceUnavailable) as raised:
            classifier.encode(release, faces(release, 1))
    assert time.monotonic() - began < 5
    assert raised.value.detail == "UNAVAILABLE", "clients read this, and need no addresses"
    assert "127.0.0.1" in str(raised.value.__cause__)


def test_a_deadline_is_unavailable(triton: Triton, release: Release) -> None:
    with Classifier(url=triton.grpc, timeout_s=0.001) as classifier, pytest.raises(InferenceUnavailable):
        classifier.encode(release, faces(release, 64))


@pytest.mark.parametrize("shape", [(2, 9, 32, 32), (2, 3, 96, 96)])
def test_faces_of_another_shape_are_rejected(classifier: Classifier, release: Release, shape: tuple[int, ...]) -> None:
    with pytest.raises(InferenceRejected, match="INVALID_ARGUMENT") as raised:
        classifier.encode(release, np.zeros(shape, np.uint8))
    assert "shape" in str(raised.value.__cause__)


def test_faces_of_another_type_are_rejected(classifier: Classifier, release: Release) -> None:
    with pytest.raises(InferenceRejected, match="INVALID_ARGUMENT") as raised:
        classifier.encode(release, faces(release, 1).astype(np.float32))
    assert "data-type" in str(raised.value.__cause__)


def test_a_mask_of_another_length_is_rejected_and_the_next_clip_is_judged(classifier: Classifier, release: Release) -> None:
    features = np.ones((1, 5, release.feature_size), np.float32)
    with pytest.raises(InferenceRejected):
        classifier.judge(release, features, np.ones((1, 4), np.float32))
    assert classifier.judge(release, features, np.ones((1, 5), np.float32)).scores.shape == (1, 7)


def test_an_unloaded_release_is_unavailable(triton: Triton, misbehaving: Release) -> None:
    with Classifier(url=triton.grpc) as classifier:
        classifier.encode(misbehaving, faces(misbehaving, 1))
        repository(triton, "unload")
        with pytest.raises(InferenceUnavailable):
            classifier.encode(misbehaving, faces(misbehaving, 1))
        repository(triton, "load")
        assert classifier.encode(misbehaving, faces(misbehaving, 1)).features.shape == (1, misbehaving.feature_size)


@pytest.mark.parametrize("fault", [NAN, WRONG_SHAPE, WRONG_TYPE, WRONG_SUM], ids=["nan", "shape", "type", "sum"])
def test_an_answer_that_is_none_is_refused(classifier: Classifier, misbehaving: Release, fault: int) -> None:
    asked = faces(misbehaving, 2)
    asked[:] = fault
    with pytest.raises(InferenceInvalidOutput):
        classifier.encode(misbehaving, asked)


def test_shapes_are_checked_where_the_data_is_made() -> None:
    with pytest.raises(InferenceInvalidOutput):
        Encoded(features=np.zeros((2, 8), np.float32), region_weights=np.full((3, 3), 1 / 3, np.float32))
    with pytest.raises(InferenceInvalidOutput):
        Judged(scores=np.full((1, 6), 1 / 6), frame_weights=np.ones((1, 1), np.float32))


def test_softmax_of_large_logits_is_a_distribution() -> None:
    np.testing.assert_allclose(softmax(np.array([[1000, 0, -1000]], np.float32)), [[1, 0, 0]])


class Misbehaving(torch.nn.Module):
    """Answers with whichever fault the first pixel asks for."""

    def __init__(self, feature_size: int) -> None:
        super().__init__()
        self.feature_size = feature_size

    def forward(self, faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        batch, fault = faces.size(0), int(faces[0, 0, 0, 0])
        features = torch.zeros(batch, self.feature_size)
        shares = torch.full((batch, 3), 1 / 3)
        if fault == 1:
            features[0, 0] = float("nan")
        if fault == 2:
            features = features[:, 1:]
        if fault == 3:
            features = features.double()
        if fault == 4:
            shares = 2 * shares
        return features, shares, torch.zeros(batch, 3, faces.size(2) // 8, faces.size(3) // 8)


@pytest.fixture(scope="module")
def misbehaving(triton: Triton, release: Release) -> Iterator[Release]:
    """A release whose frame graph is well described and badly behaved, loaded beside the good one."""
    folder = triton.models / model_name(BAD_VERSION, "frames")
    shutil.copytree(triton.models / release.model("frames"), folder)
    with torchscript():
        torch.jit.save(torch.jit.script(Misbehaving(release.feature_size)), str(folder / "1" / "model.pt"))
    repository(triton, "load")
    yield release.model_copy(update={"version": BAD_VERSION})
    repository(triton, "unload")
    shutil.rmtree(folder)


def repository(triton: Triton, verb: str) -> None:
    """Load or unload the misbehaving model, and wait until Triton has done it."""
    model = model_name(BAD_VERSION, "frames")
    httpx.post(f"{triton.http}/v2/repository/models/{model}/{verb}", timeout=60).raise_for_status()
    deadline = time.monotonic() + 60
    while triton.is_ready(model) != (verb == "load"):
        assert time.monotonic() < deadline, f"{verb} of {model} takes too long"
        time.sleep(0.05)
