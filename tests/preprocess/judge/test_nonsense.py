"""Whatever a model server answers, it becomes an error with a name, or a verdict that is one."""

from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from services.preprocess.judge.classifier import Classifier
from shared.errors import InferenceError, InferenceInvalidOutput, InferenceRejected, InferenceUnavailable
from shared.releases import Release
from tests.preprocess.judge import nonsense
from tests.preprocess.judge.mean_classifier import RELEASE
from tests.preprocess.judge.nonsense import Fault, Server

REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT: InferenceRejected,
    grpc.StatusCode.RESOURCE_EXHAUSTED: InferenceRejected,
    grpc.StatusCode.NOT_FOUND: InferenceUnavailable,
    grpc.StatusCode.UNAVAILABLE: InferenceUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: InferenceUnavailable,
    grpc.StatusCode.CANCELLED: InferenceUnavailable,
    grpc.StatusCode.ABORTED: InferenceUnavailable,
    grpc.StatusCode.INTERNAL: InferenceUnavailable,
    grpc.StatusCode.UNKNOWN: InferenceUnavailable,
    grpc.StatusCode.DATA_LOSS: InferenceUnavailable,
    grpc.StatusCode.UNIMPLEMENTED: InferenceError,
}

FAULTS: dict[str, Fault] = {
    "one column less": nonsense.cast(0, lambda array: array[:, 1:]),
    "one row less": nonsense.cast(0, lambda array: array[1:]),
    "another rank": nonsense.cast(0, lambda array: array[:, :, None]),
    "no rows": nonsense.cast(0, lambda array: array[:0]),
    "not a number": nonsense.fill(0, float("nan")),
    "infinite": nonsense.fill(0, float("inf")),
    "minus infinite": nonsense.fill(0, float("-inf")),
    "shares that are not numbers": nonsense.fill(1, float("nan")),
    "a negative share": nonsense.cast(1, lambda array: array - [[1.0] + [-1.0 / (array.shape[1] - 1)] * (array.shape[1] - 1)]),
    "shares that sum to 2": nonsense.cast(1, lambda array: array * 2),
    "doubles": nonsense.cast(0, lambda array: array.astype(np.float64)),
    "halves": nonsense.cast(0, lambda array: array.astype(np.float16)),
    "integers": nonsense.cast(0, lambda array: array.astype(np.int32)),
    "text": nonsense.call_text,
    "a type that does not exist": nonsense.call_nothing,
    "three bytes less": nonsense.truncate,
    "no bytes": nonsense.leave_out_bytes,
    "an output less": nonsense.leave_out,
    "65 MiB": nonsense.swell,
    "of another model": nonsense.of_another_model,
}


@pytest.fixture(scope="module")
def release() -> Release:
    return RELEASE


@pytest.fixture
def server(release: Release) -> Iterator[Server]:
    with nonsense.serving(release) as server:
        yield server


@pytest.fixture
def classifier(server: Server) -> Iterator[Classifier]:
    with Classifier(url=server.url, timeout_s=10) as connection:
        yield connection


def encode(classifier: Classifier, release: Release) -> None:
    classifier.encode(release, np.zeros((3, 9, release.size, release.size), np.uint8))


def judge(classifier: Classifier, release: Release) -> None:
    classifier.judge(release, np.zeros((3, 5, release.feature_size), np.float32), np.ones((3, 5), np.float32))


ASKED = pytest.mark.parametrize("ask", [encode, judge])


@ASKED
def test_a_good_answer_is_taken(classifier: Classifier, release: Release, ask) -> None:
    ask(classifier, release)


@ASKED
@pytest.mark.parametrize("code", REFUSALS, ids=lambda code: code.name)
def test_a_refusal_has_a_name_and_says_no_addresses(server: Server, classifier: Classifier, release: Release, ask, code) -> None:
    server.fault = nonsense.refuse(code)
    with pytest.raises(InferenceError) as raised:
        ask(classifier, release)
    assert type(raised.value) is REFUSALS[code]
    assert "10.1.2.3" not in raised.value.detail


@ASKED
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_an_answer_that_is_none_is_refused_and_the_next_one_is_taken(server, classifier, release, ask, fault) -> None:
    good, server.fault = server.fault, fault
    with pytest.raises(InferenceInvalidOutput):
        ask(classifier, release)
    server.fault = good
    ask(classifier, release)
