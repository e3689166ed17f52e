"""How good a network is: figures that a release may be compared by."""

from dataclasses import dataclass

import torch
from torch import Tensor

from shared.expressions import LABELS
from training.datasets import Clips
from training.network import Network
from training.record import Measured

CALIBRATION_BINS = 15


@dataclass(frozen=True, kw_only=True)
class Report:
    """A network's verdicts on one labelled set."""

    scores: Tensor
    """float32 (N, 7); a row sums to 1."""
    labels: Tensor
    """int64 (N,): the truth."""

    @property
    def confusion(self) -> Tensor:
        """int64 (7, 7), rows are truth and columns verdicts, in the order of LABELS."""
        classes = len(LABELS)
        pairs = self.labels * classes + self.scores.argmax(dim=1)
        return torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)

    @property
    def accuracy(self) -> float:
        return float((self.scores.argmax(dim=1) == self.labels).double().mean())

    @property
    def recall(self) -> dict[str, float]:
        """Per label that the set holds."""
        confusion = self.confusion
        truths = confusion.sum(dim=1)
        return {label: float(confusion[i, i] / truths[i]) for i, label in enumerate(LABELS) if truths[i]}

    @property
    def mean_recall(self) -> float:
        recall = self.recall
        return sum(recall.values()) / len(recall)

    @property
    def macro_f1(self) -> float:
        """Mean over the labels that the set holds of 2 TP / (2 TP + FP + FN)."""
        return macro_f1(self.confusion)

    @property
    def calibration_error(self) -> float:
        """Expected calibration error over 15 bins (Guo et al., arXiv 1706.04599)."""
        confidence, verdicts = self.scores.max(dim=1)
        right = (verdicts == self.labels).float()
        which = (confidence * CALIBRATION_BINS).long().clamp(max=CALIBRATION_BINS - 1)
        gaps = [
            (confidence[which == b].mean() - right[which == b].mean()).abs() * (which == b).float().mean()
            for b in range(CALIBRATION_BINS)
            if (which == b).any()
        ]
        return float(torch.stack(gaps).sum())

    def part(self, rows: Tensor) -> "Report":
        """The verdicts in these rows, in the given order."""
        return Report(scores=self.scores[rows], labels=self.labels[rows])

    def measured(self) -> Measured:
        """As the record of a run keeps it."""
        return Measured(
            samples=len(self.labels),
            accuracy=round(self.accuracy, 4),
            macro_f1=round(self.macro_f1, 4),
            mean_recall=round(self.mean_recall, 4),
            calibration_error=round(self.calibration_error, 4),
            recall={label: round(value, 4) for label, value in self.recall.items()},
            confusion=tuple(tuple(row) for row in self.confusion.tolist()),
        )

    def figures(self) -> dict[str, float]:
        """As `release.json` keeps them."""
        measured = self.measured()
        figures = measured.model_dump(include={"samples", "accuracy", "mean_recall", "macro_f1", "calibration_error"})
        return {**figures, **{f"recall_{label}": value for label, value in measured.recall.items()}}


def macro_f1(confusion: Tensor) -> float:
    truths, verdicts, right = confusion.sum(dim=1), confusion.sum(dim=0), confusion.diagonal()
    present = truths > 0
    return float((2 * right[present] / (truths[present] + verdicts[present])).mean())


def evaluate(network: Network, clips: Clips, *, batch: int = 256) -> Report:
    """Judge labelled clips without noise. Raises DataUnusable when none is labelled."""
    labelled = clips.labelled()
    return Report(scores=scores_of(network, labelled, batch=batch), labels=labelled.labels)


def in_batches(counts: Tensor, frames: int) -> list[Tensor]:
    """Rows of clips in order, so many to a batch that they have about `frames` frames between them; a longer clip is one by itself."""
    which = (counts.cumsum(0) - counts) // frames
    return list(torch.arange(len(counts)).split(torch.unique_consecutive(which, return_counts=True)[1].tolist()))


@torch.inference_mode()
def scores_of(network: Network, clips: Clips, *, batch: int = 256) -> Tensor:
    """The scores float32 (N, 7) of clips by all of their frames, without noise, on whichever device the network is.

    batch: frames at a time, by and large.
    """
    network.eval()
    device = next(network.parameters()).device
    scores = []
    for rows in in_batches(clips.count, batch):
        faces = torch.cat([clips.frames_of(row) for row in rows.tolist()]).to(device)
        logits = network(faces.contiguous(memory_format=torch.channels_last), clips.count[rows].to(device))
        scores.append(torch.softmax(logits.float(), dim=1).cpu())
    return torch.cat(scores)
