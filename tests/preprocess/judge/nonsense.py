"""A small server that speaks Triton's protocol (KServe v2 over gRPC), and answers as badly as it is told to."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import np_to_triton_dtype

from services.preprocess.judge.classifier import softmax
from shared.releases import CLIP_OUTPUTS, FRAMES_OUTPUTS, Release

Answer = Any
"""A ModelInferResponse, whose class is made at run time."""
Fault = Callable[[Answer, Any], None]
"""Spoils a good answer, or refuses to give one through the call's context."""

HUGE_BYTES = 65 << 20
UNLIMITED = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))


def tensor(answer: Answer, name: str, array: np.ndarray) -> None:
    output = answer.outputs.add()
    output.name, output.datatype = name, np_to_triton_dtype(array.dtype)
    output.shape.extend(array.shape)
    answer.raw_output_contents.append(array.tobytes())


def respell(answer: Answer, index: int, array: np.ndarray) -> None:
    """Another array in the place of an output."""
    output = answer.outputs[index]
    output.datatype = np_to_triton_dtype(array.dtype)
    del output.shape[:]
    output.shape.extend(array.shape)
    answer.raw_output_contents[index] = array.tobytes()


def array_of(answer: Answer, index: int) -> np.ndarray:
    return np.frombuffer(answer.raw_output_contents[index], np.float32).reshape(tuple(answer.outputs[index].shape)).copy()


def refuse(code: grpc.StatusCode) -> Fault:
    return lambda _, context: context.abort(code, "[nonsense] at 10.1.2.3")


def fill(index: int, value: float) -> Fault:
    """One number of an output."""

    def spoil(answer: Answer, _: Any) -> None:
        array = array_of(answer, index)
        array.flat[0] = value
        respell(answer, index, array)

    return spoil


def cast(index: int, change: Callable[[np.ndarray], np.ndarray]) -> Fault:
    """A whole output."""
    return lambda answer, _: respell(answer, index, change(array_of(answer, index)))


def leave_alone(answer: Answer, _: Any) -> None:
    """The answer is good as it is."""


def truncate(answer: Answer, _: Any) -> None:
    answer.raw_output_contents[0] = answer.raw_output_contents[0][:-3]


def leave_out(answer: Answer, _: Any) -> None:
    del answer.outputs[1], answer.raw_output_contents[1]


def leave_out_bytes(answer: Answer, _: Any) -> None:
    del answer.raw_output_contents[1]


def call_text(answer: Answer, _: Any) -> None:
    answer.outputs[0].datatype = "BYTES"


def call_nothing(answer: Answer, _: Any) -> None:
    answer.outputs[0].datatype = "FP31"


def of_another_model(answer: Answer, _: Any) -> None:
    answer.model_name = "mien_999999_frames"


def swell(answer: Answer, _: Any) -> None:
    respell(answer, 0, np.zeros(HUGE_BYTES // 4, np.float32))


class Server(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers for any release, well unless `fault` says otherwise."""

    def __init__(self, release: Release) -> None:
        self.fault: Fault = leave_alone
        self.url = ""
        self._release = release

    def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802 (the protocol's names)
        return service_pb2.ModelReadyResponse(ready=True)

    def ModelInfer(self, request: Any, context: Any) -> Answer:  # noqa: N802
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
        rows, *rest = request.inputs[0].shape
        if request.model_name.endswith("_frames"):
            tensor(answer, FRAMES_OUTPUTS[0], np.ones((rows, self._release.feature_size), np.float32))
            tensor(answer, FRAMES_OUTPUTS[1], np.full((rows, 3), 1 / 3, np.float32))
        else:
            tensor(answer, CLIP_OUTPUTS[0], np.zeros((rows, 7), np.float32))
            tensor(answer, CLIP_OUTPUTS[1], softmax(np.zeros((rows, rest[0]), np.float32)).astype(np.float32))
        self.fault(answer, context)
        return answer


@contextmanager
def serving(release: Release) -> Iterator[Server]:
    """The server on a free loopback port."""
    server = Server(release)
    listener = grpc.server(ThreadPoolExecutor(4), options=UNLIMITED)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(server, listener)
    server.url = f"127.0.0.1:{listener.add_insecure_port('127.0.0.1:0')}"
    listener.start()
    try:
        yield server
    finally:
        listener.stop(grace=None).wait()
