"""Asks Triton: faces to features, and the features of clips to verdicts. The only module that knows Triton's client.

Requests of a batch each are kept in flight, so that Triton receives one while it runs another. Everything Triton's
client raises becomes an InferenceError here, and no answer leaves before its shape, type and sums have been checked.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, wait
from copy import copy
from dataclasses import dataclass
from threading import Event
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from shared.errors import InferenceError, InferenceInvalidOutput, InferenceRejected, InferenceUnavailable
from shared.expressions import LABELS, REGIONS
from shared.releases import CLIP_INPUTS, CLIP_OUTPUTS, FRAMES_INPUT, FRAMES_OUTPUTS, GRAPHS, Release

IN_FLIGHT: Final = 3
"""Batches that Triton has at once: one for each instance of the model, and one on its way."""
READY_TIMEOUT_S: Final = 2.0
STOPS_WITHIN_S: Final = 0.2
"""How soon whoever waits for an answer hears that it is no longer wanted."""
SUM_TOLERANCE: Final = 1e-3
FLOATS: Final = "FP32"

CHANNEL: Final = (
    ("grpc.max_send_message_length", -1),  # a track of an hour is one message of 15 MB or more
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),  # gRPC's own two minutes would outlast a restart of Triton by far
)

ERRORS: Final[Mapping[str, type[InferenceError]]] = {
    "StatusCode.UNAVAILABLE": InferenceUnavailable,  # nobody listens, the connection broke, or the model was unloaded
    "StatusCode.NOT_FOUND": InferenceUnavailable,  # the model was never loaded
    "StatusCode.DEADLINE_EXCEEDED": InferenceUnavailable,
    "StatusCode.CANCELLED": InferenceUnavailable,
    "StatusCode.ABORTED": InferenceUnavailable,
    "StatusCode.INTERNAL": InferenceUnavailable,  # a model's own process has died: nothing is wrong with whoever asks
    "StatusCode.UNKNOWN": InferenceUnavailable,
    "StatusCode.DATA_LOSS": InferenceUnavailable,
    "StatusCode.INVALID_ARGUMENT": InferenceRejected,
    "StatusCode.RESOURCE_EXHAUSTED": InferenceRejected,  # the message is larger than Triton takes
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """What N faces look like to the network. Raises InferenceInvalidOutput when made of anything else."""

    features: NDArray[np.float32]
    """(N, F)"""
    region_weights: NDArray[np.float32]
    """(N, 3): shares of face, eyes and mouth; a row sums to 1."""

    def __post_init__(self) -> None:
        _check_shape("features", self.features, (len(self.features), self.features.shape[-1]))
        _check_shape("region weights", self.region_weights, (len(self.features), len(REGIONS)))
        _check_finite("features", self.features)
        _check_shares("region weights", self.region_weights)


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What B clips express. Raises InferenceInvalidOutput when made of anything else."""

    scores: NDArray[np.float64]
    """(B, 7) in the order of LABELS; a row sums to 1."""
    frame_weights: NDArray[np.float32]
    """(B, T): the share of each frame in the verdict, 0 for padding; a row sums to 1."""

    def __post_init__(self) -> None:
        _check_shape("scores", self.scores, (len(self.frame_weights), len(LABELS)))
        _check_shares("scores", self.scores)
        _check_shares("frame weights", self.frame_weights)


class Classifier:
    """A connection to one Triton. Not for several threads at once, which Triton's client does not allow.

    Every call answers or raises within `timeout_s` seconds per batch: InferenceUnavailable when Triton does not answer or has not loaded
    the release, InferenceRejected when it does not take the tensors, InferenceInvalidOutput when its answer is not one.
    """

    def __init__(self, *, url: str, timeout_s: float = 30, batch: int = 16) -> None:
        self._client = InferenceServerClient(url, channel_args=CHANNEL)
        self._timeout_s = timeout_s
        self._batch = batch
        self._stopping = Event()

    def until(self, stopping: Event) -> Self:
        """The same connection, for as long as `stopping` is not set: then requests are called back, and CancelledError is raised."""
        stoppable = copy(self)
        stoppable._stopping = stopping  # noqa: SLF001 -- one of its own kind
        return stoppable

    def ready(self, release: Release) -> bool:
        """Whether both graphs of the release are loaded and warm. A server that cannot even say so has neither."""
        timeout_s = min(self._timeout_s, READY_TIMEOUT_S)
        try:
            return all(self._client.is_model_ready(release.model(graph), client_timeout=timeout_s) for graph in GRAPHS)
        except InferenceServerException:
            return False

    def encode(self, release: Release, faces_nchw: NDArray[np.uint8]) -> Encoded:
        """Faces (N, 9, S, S) to their features. N may be 0."""
        features, region_weights, _ = FRAMES_OUTPUTS
        shapes = {features: (release.feature_size,), region_weights: (len(REGIONS),)}
        batches = ({FRAMES_INPUT: faces_nchw[start : start + self._batch]} for start in range(0, len(faces_nchw), self._batch))
        answer = self._ask(release.model("frames"), batches, shapes)
        return Encoded(features=answer[features], region_weights=answer[region_weights])

    def judge(self, release: Release, features_btf: NDArray[np.float32], mask_bt: NDArray[np.float32]) -> Judged:
        """Clips of T frames, as features (B, T, F) and a mask (B, T) with 1 for a frame and 0 for padding, to verdicts. B may be 0."""
        features, mask = CLIP_INPUTS
        logits, frame_weights = CLIP_OUTPUTS
        shapes = {logits: (len(LABELS),), frame_weights: mask_bt.shape[1:]}
        batches = (
            {features: features_btf[start : start + self._batch], mask: mask_bt[start : start + self._batch]}
            for start in range(0, len(features_btf), self._batch)
        )
        answer = self._ask(release.model("clip"), batches, shapes)
        return Judged(scores=softmax(answer[logits]), frame_weights=answer[frame_weights])

    def close(self) -> None:
        """Give the connection back; calls still in flight end as InferenceUnavailable."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(
        self, model: str, batches: Iterable[Mapping[str, NDArray[Any]]], shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, NDArray[np.float32]]:
        """The named outputs of all batches, joined. `shapes` are those of one row."""
        parts: dict[str, list[NDArray[np.float32]]] = {name: [np.empty((0, *shape), np.float32)] for name, shape in shapes.items()}
        for rows, result in self._in_flight(model, batches, list(shapes)):
            _check_model(result, model)
            for name, shape in shapes.items():
                parts[name].append(_read(result, name, (rows, *shape)))
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}

    def _in_flight(self, model: str, batches: Iterable[Mapping[str, NDArray[Any]]], outputs: list[str]) -> Iterator[tuple[int, Any]]:
        """Each batch's rows and answer, in order. A failure calls the ones behind it back."""
        flying: deque[tuple[int, _Call]] = deque()
        try:
            for batch in batches:
                flying.append((len(next(iter(batch.values()))), self._send(model, batch, outputs)))
                if len(flying) == IN_FLIGHT:
                    yield flying[0][0], flying[0][1].result(self._stopping)
                    flying.popleft()
            while flying:
                yield flying[0][0], flying[0][1].result(self._stopping)
                flying.popleft()
        finally:
            for _, call in flying:
                call.cancel()

    def _send(self, model: str, batch: Mapping[str, NDArray[Any]], outputs: list[str]) -> "_Call":
        if self._stopping.is_set():
            raise CancelledError
        answered: Future[Any] = Future()

        def receive(result: Any, error: InferenceServerException | None) -> None:
            answered.set_exception(error) if error else answered.set_result(result)

        try:
            context = self._client.async_infer(
                model,
                [_tensor(name, array) for name, array in batch.items()],
                receive,
                outputs=[InferRequestedOutput(name) for name in outputs],
                client_timeout=self._timeout_s,
            )
        except InferenceServerException as error:
            raise _translated(error) from error
        return _Call(answered=answered, context=context)


@dataclass(frozen=True, kw_only=True)
class _Call:
    """A request on its way. gRPC's deadline sees to it that it is always answered."""

    answered: Future[Any]
    context: Any

    def result(self, stopping: Event) -> Any:
        try:
            while not wait([self.answered], STOPS_WITHIN_S).done:
                if stopping.is_set():
                    raise CancelledError
            return self.answered.result()
        except InferenceServerException as error:
            raise _translated(error) from error

    def cancel(self) -> None:
        self.context.cancel()


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores that sum to 1 over the last axis. In float64, since clients add them up."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _tensor(name: str, array: NDArray[Any]) -> InferInput:
    tensor = InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(np.ascontiguousarray(array))
    return tensor


def _check_model(result: Any, model: str) -> None:
    """A proxy, or a repository in disorder, may have led to another release, whose verdicts would pass for this one's."""
    if result.get_response().model_name != model:
        raise InferenceInvalidOutput("another model has answered")


def _read(result: Any, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    output = result.get_output(name)
    if output is None:
        raise InferenceInvalidOutput(f"no {name}")
    if output.datatype != FLOATS:  # before it is read: text, for one, is read by lengths that it brings itself
        raise InferenceInvalidOutput(f"{name} is {output.datatype}, not {FLOATS}")
    try:
        array = result.as_numpy(name)
    except ValueError as error:  # fewer bytes than the shape announces
        raise InferenceInvalidOutput(f"{name}: {error}") from error
    _check_shape(name, array, shape)
    _check_finite(name, array)
    return np.asarray(array, np.float32)


def _check_shape(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise InferenceInvalidOutput(f"{name} has shape {array.shape}, not {shape}")


def _check_finite(name: str, array: NDArray[Any]) -> None:
    if not np.isfinite(array).all():
        raise InferenceInvalidOutput(f"{name} holds NaN or infinity")


def _check_shares(name: str, rows: NDArray[Any]) -> None:
    """Rows of shares: between 0 and 1, summing to 1. NaN fails every comparison, so it is refused too."""
    if not ((rows >= 0).all() and (np.abs(rows.sum(axis=-1) - 1) <= SUM_TOLERANCE).all()):
        raise InferenceInvalidOutput(f"{name} do not sum to 1")


def _translated(error: InferenceServerException) -> InferenceError:
    """Its text may name hosts and models, so it stays in the cause, for logs."""
    status = error.status() or "no status"
    return ERRORS.get(status, InferenceError)(status.removeprefix("StatusCode."))
