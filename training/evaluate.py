"""How good a network is: figures that a release may be compared by."""

from dataclasses import dataclass

import torch
from torch import Tensor

from shared.expressions import LABELS
from training.datasets import Faces
from training.network import ClipClassifier, FrameEncoder


@dataclass(frozen=True, kw_only=True)
class Report:
    """Measured on one labelled set."""

    confusion: Tensor
    """int64 (7, 7), rows are truth and columns verdicts, in the order of LABELS."""
    calibration_error: float
    """Expected calibration error over 15 bins (Guo et al., arXiv 1706.04599)."""

    @property
    def accuracy(self) -> float:
        return float(self.confusion.diagonal().sum() / self.confusion.sum())

    @property
    def recall(self) -> dict[str, float]:
        """Per label that the set holds."""
        truths = self.confusion.sum(dim=1)
        return {label: float(self.confusion[i, i] / truths[i]) for i, label in enumerate(LABELS) if truths[i]}

    @property
    def mean_recall(self) -> float:
        return sum(self.recall.values()) / len(self.recall)

    @property
    def macro_f1(self) -> float:
        """Mean over the labels that the set holds of 2 TP / (2 TP + FP + FN)."""
        truths, verdicts, right = self.confusion.sum(dim=1), self.confusion.sum(dim=0), self.confusion.diagonal()
        present = truths > 0
        return float((2 * right[present] / (truths[present] + verdicts[present])).mean())

    def figures(self) -> dict[str, float]:
        """As `release.json` keeps them."""
        values = {
            "samples": float(self.confusion.sum()),
            "accuracy": self.accuracy,
            "mean_recall": self.mean_recall,
            "macro_f1": self.macro_f1,
            "calibration_error": self.calibration_error,
        }
        return {name: round(value, 4) for name, value in (values | {f"recall_{k}": v for k, v in self.recall.items()}).items()}


@torch.inference_mode()
def evaluate(encoder: FrameEncoder, clip: ClipClassifier, faces: Faces, *, batch: int = 256) -> Report:
    """Judge every face as a clip of one frame, without noise."""
    encoder.eval()
    clip.eval()
    scores = torch.cat([judge(encoder, clip, group) for group in faces.faces.split(batch)])
    return report(scores, faces.labels)


def judge(encoder: FrameEncoder, clip: ClipClassifier, faces: Tensor) -> Tensor:
    """uint8 (N, 9, S, S) to scores (N, 7)."""
    features, _, _ = encoder(faces.contiguous(memory_format=torch.channels_last))
    logits, _ = clip(features.unsqueeze(1), torch.ones(len(faces), 1))
    return torch.softmax(logits, dim=1)


def report(scores: Tensor, labels: Tensor) -> Report:
    verdicts = scores.argmax(dim=1)
    classes = len(LABELS)
    confusion = torch.bincount(labels * classes + verdicts, minlength=classes * classes).reshape(classes, classes)
    return Report(confusion=confusion, calibration_error=calibration_error(scores, labels))


def calibration_error(scores: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    confidence, verdicts = scores.max(dim=1)
    right = (verdicts == labels).float()
    which = (confidence * bins).long().clamp(max=bins - 1)
    gaps = [
        (confidence[which == b].mean() - right[which == b].mean()).abs() * (which == b).float().mean()
        for b in range(bins)
        if (which == b).any()
    ]
    return float(torch.stack(gaps).sum())
