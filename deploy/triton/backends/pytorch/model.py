"""Triton's `pytorch` backend in Python: runs any `model.pt` on the CPU as NVIDIA's libtorch backend does, with the same config.

Triton's Python backend imports this file in one process per model. Inputs and outputs are positional: the number after
`__` in a tensor's name is its place among the graph's arguments or results.
"""

from __future__ import annotations  # Triton adds its types to triton_python_backend_utils only after this import

import json
import os
import select
import signal
import subprocess
import threading
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import triton_python_backend_utils as triton
from torch import Tensor
from torch.utils.dlpack import from_dlpack

LOOKS_UP_S = 2.0
STUCK_S = 30.0
"""Without the interpreter's lock for so long, a stub is taken for stuck. Graphs run without it, so honest work never is."""


class TritonPythonModel:
    """One TorchScript graph. Triton calls `initialize` once and `execute` with all requests that it batched together."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the graph of this model's version; an error here makes the model, and only it, unavailable."""
        end_with_parent()
        config = json.loads(args["model_config"])
        torch.set_num_threads(threads_of_one(config))
        self.inputs = positional(tensor["name"] for tensor in config["input"])
        self.outputs = positional(tensor["name"] for tensor in config["output"])
        file = config["default_model_filename"] or "model.pt"
        self.graph = load(Path(args["model_repository"]) / args["model_version"] / file)
        self.lifeline = Lifeline()  # from now on: a model that cannot be read is no reason to end

    def finalize(self) -> None:
        """Called when the model is unloaded, and when Triton ends."""
        self.lifeline.let_go()

    def execute(self, requests: Sequence[triton.InferenceRequest]) -> list[triton.InferenceResponse]:
        """One answer per request, in order.

        All requests run as one batch: this is where dynamic batching pays. If that fails each runs alone, so that
        only the one at fault gets an error.
        """
        batches = [self.read(request) for request in requests]
        try:
            results = self.run_merged(batches)
        except RuntimeError as error:
            if len(requests) > 1:
                return [response for request in requests for response in self.execute([request])]
            return [triton.InferenceResponse(error=triton.TritonError(str(error), triton.TritonError.INVALID_ARG))]
        return [self.answer(request, result) for request, result in zip(requests, results, strict=True)]

    def read(self, request: triton.InferenceRequest) -> list[Tensor]:
        """The request's tensors as views of Triton's memory."""
        tensors = (triton.get_input_tensor_by_name(request, name) for name in self.inputs)
        return [from_dlpack(tensor.to_dlpack()) for tensor in tensors]

    def run_merged(self, batches: list[list[Tensor]]) -> list[tuple[Tensor, ...]]:
        """Inputs of each request to outputs of each request, through one call of the graph."""
        sizes = [inputs[0].shape[0] for inputs in batches]
        merged = batches[0] if len(batches) == 1 else [torch.cat(tensors) for tensors in zip(*batches, strict=True)]
        with torch.inference_mode():
            results = self.graph(*merged)
        results = results if isinstance(results, tuple) else (results,)
        return list(zip(*(result.split(sizes) for result in results), strict=True))

    def answer(self, request: triton.InferenceRequest, results: tuple[Tensor, ...]) -> triton.InferenceResponse:
        """Only what the client asked for. Given as DLPack: with NumPy 2 this Triton reads arrays as empty."""
        wanted = request.requested_output_names()
        named = zip(self.outputs, results, strict=True)
        return triton.InferenceResponse([triton.Tensor.from_dlpack(name, result.contiguous()) for name, result in named if name in wanted])


class Lifeline:
    """Ends Triton when this process dies before its time, of too little memory for one.

    Triton would start no other: it answers each request with an error from then on, and says that the model is ready. Whoever runs Triton
    starts it again. A shell holds the other end, since nobody else would notice.
    """

    def __init__(self) -> None:
        command = ["sh", "-c", 'read -r _ || kill -TERM "$0"', str(os.getppid())]
        theirs, self._end = os.pipe()
        subprocess.Popen(command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(theirs)

    def let_go(self) -> None:
        """It is time."""
        with suppress(OSError):  # there is nobody any more
            os.write(self._end, b"\n")


def threads_of_one(config: dict[str, Any]) -> int:
    """The model's threads, divided among its instances: two batches side by side need no waiting for each other's threads."""
    instances = sum(group["count"] for group in config["instance_group"])
    return max(1, int(os.environ["MIEN_TRITON_THREADS"]) // int(instances))


def positional(names: Iterable[str]) -> list[str]:
    """Tensor names in the order of the graph's arguments: `mask__1` after `features__0`."""
    return sorted(names, key=lambda name: int(name.rpartition("__")[2]))


def end_with_parent() -> None:
    """Leave with Triton even when it was killed, which it cannot tell its stubs: each would hold on to half a gigabyte.

    The kernel's own parent-death signal is no use: it is sent when the thread that started the stub ends, which is at once.
    A stub that was killed off in the middle of a call may wait for ever for Triton's half of it, and hold the interpreter's
    lock meanwhile; then only an alarm that nobody puts off any more ends it.
    """
    parent = os.pidfd_open(os.getppid())

    def watch() -> None:
        gone = False
        while not gone:
            signal.setitimer(signal.ITIMER_REAL, STUCK_S)
            gone = bool(select.select([parent], [], [], LOOKS_UP_S)[0])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def load(path: Path) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.load` is deprecated")
        graph: torch.jit.ScriptModule = torch.jit.load(path, map_location="cpu")
        return graph
