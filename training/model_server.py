"""Triton's HTTP side, as far as publishing needs it: load, unload, and ask for numbers. The only training module that knows Triton.

Models are under EXPLICIT control: nothing is loaded but what was named, and loading one never touches another. A load is answered
when the model has been through the warm-ups of its config, so READY means warm.
"""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, Self

import httpx
import torch
from torch import Tensor

from shared.errors import InferenceError, InferenceInvalidOutput, InferenceUnavailable
from shared.releases import CLIP_INPUTS, CLIP_OUTPUTS, CONTROL_HEADER, FRAMES_INPUT, FRAMES_OUTPUTS, GRAPHS, Release, model_name

LOADS_WITHIN_S: Final = 300.0
"""On a slow disk the first import of torch alone takes a minute."""
ANSWERS_WITHIN_S: Final = 60.0

DATA_TYPES: Final = {torch.uint8: "UINT8", torch.float32: "FP32"}
_OURS: Final = re.compile(rf"mien_(\d{{6}})_(?:{'|'.join(GRAPHS)})")


class ModelServer:
    """One Triton. Every call raises InferenceUnavailable when it does not answer, and InferenceError when it refuses."""

    def __init__(self, url: str, *, secret: str = "") -> None:
        """secret: what the server was told to ask for, before it loads or unloads; empty where it asks nobody."""
        # Triton is on the inner network: a proxy that HTTP_PROXY names for other purposes cannot know it.
        self._http = httpx.Client(
            base_url=url, timeout=ANSWERS_WITHIN_S, trust_env=False, headers={CONTROL_HEADER: secret} if secret else None
        )

    def load(self, version: int) -> None:
        """Load both graphs of a published release, and wait until they are warm."""
        for graph in GRAPHS:
            self._post(f"/v2/repository/models/{model_name(version, graph)}/load", timeout=LOADS_WITHIN_S)
        if not self.is_ready(version):
            raise InferenceError(f"release {version} was loaded and is not ready")

    def unload(self, version: int) -> None:
        """Let go of both graphs once what they are computing is done. Harmless where they are not loaded."""
        for graph in GRAPHS:
            self._post(f"/v2/repository/models/{model_name(version, graph)}/unload")

    def is_ready(self, version: int) -> bool:
        """Whether both graphs are loaded and warm."""
        answers = (self._ask("GET", f"/v2/models/{model_name(version, graph)}/ready") for graph in GRAPHS)
        return all(answer.status_code == HTTPStatus.OK for answer in answers)

    def loaded(self) -> set[int]:
        """The releases that have a graph loaded."""
        index = self._post("/v2/repository/index", json={"ready": True}).json()
        names = (_OURS.fullmatch(model["name"]) for model in index)
        return {int(name[1]) for name in names if name}

    def frames(self, release: Release, faces: Tensor) -> list[Tensor]:
        """Faces uint8 (B, 9, S, S) to what the encoder answers. Raises InferenceInvalidOutput."""
        return self._infer(release.model("frames"), {FRAMES_INPUT: faces}, FRAMES_OUTPUTS)

    def clip(self, release: Release, features: Tensor, mask: Tensor) -> list[Tensor]:
        """Features (B, T, F) and mask (B, T) to what the classifier answers. Raises InferenceInvalidOutput."""
        return self._infer(release.model("clip"), dict(zip(CLIP_INPUTS, (features, mask), strict=True)), CLIP_OUTPUTS)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _infer(self, model: str, tensors: Mapping[str, Tensor], wanted: Sequence[str]) -> list[Tensor]:
        inputs = [
            {"name": name, "shape": list(tensor.shape), "datatype": DATA_TYPES[tensor.dtype], "data": tensor.flatten().tolist()}
            for name, tensor in tensors.items()
        ]
        answer = self._post(f"/v2/models/{model}/infer", json={"inputs": inputs, "outputs": [{"name": name} for name in wanted]})
        try:
            outputs = {output["name"]: output for output in answer.json()["outputs"]}
            return [torch.tensor(outputs[name]["data"], dtype=torch.float32).reshape(outputs[name]["shape"]) for name in wanted]
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            raise InferenceInvalidOutput(f"{model}: {error}") from error

    def _post(self, path: str, *, json: Any = None, timeout: float = ANSWERS_WITHIN_S) -> httpx.Response:
        answer = self._ask("POST", path, json=json, timeout=timeout)
        if answer.is_error:
            raise InferenceError(f"{path}: {answer.status_code} {answer.text[:500]}")
        return answer

    def _ask(self, method: str, path: str, *, json: Any = None, timeout: float = ANSWERS_WITHIN_S) -> httpx.Response:
        try:
            return self._http.request(method, path, json=json, timeout=timeout)
        except httpx.HTTPError as error:
            raise InferenceUnavailable(f"{path}: {type(error).__name__}") from error
