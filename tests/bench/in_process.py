"""A release's network in this process, as Triton would answer for it: for what asks how right Mien is, not how fast."""

from pathlib import Path
from threading import Event
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from services.preprocess.judge.classifier import Encoded, Judged, softmax
from shared import releases
from shared.releases import Release
from training.export import read_release_network


class InProcess:
    """Takes the place of a `Classifier`."""

    def __init__(self, weights: Path) -> None:
        """weights: the release's folder."""
        self.release = releases.read(weights / releases.MANIFEST)
        self._network = read_release_network(self.release, weights / releases.WEIGHTS)

    def until(self, _stopping: Event) -> Self:
        return self

    @torch.inference_mode()
    def encode(self, _release: Release, faces_nchw: NDArray[np.uint8]) -> Encoded:
        features, regions, _ = self._network.encoder(torch.from_numpy(faces_nchw))
        return Encoded(features=features.numpy(), region_weights=regions.numpy())

    @torch.inference_mode()
    def judge(self, _release: Release, features_btf: NDArray[np.float32], mask_bt: NDArray[np.float32]) -> Judged:
        logits, weights = self._network.clip(torch.from_numpy(features_btf), torch.from_numpy(mask_bt))
        return Judged(scores=softmax(logits.numpy()), frame_weights=weights.numpy())
