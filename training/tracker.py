"""A run's curves for a browser: TensorBoard's event files, beside `record.json` and `history.jsonl`, which hold the truth.

    tensorboard --logdir <run>/curves

Every round has a folder of its own with a point per epoch; `rounds` has a point per round. The writer is torch's over
TensorBoard's own package, which is also the viewer.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from shared.expressions import LABELS
from shared.videos import storage_errors
from training import report
from training.record import Measured, Round

ROUNDS: Final = "rounds"

OF_A_SET: Final = re.compile(r"(?P<set>.+)_(?P<figure>accuracy|macro_f1|mean_recall|calibration_error)")
"""How a line of history.jsonl names a figure that was measured on a set."""

CELL_PX: Final = 32


class Tracker:
    """Writes a run's curves into a folder. Raises StorageError where the disk does not take them.

    What is told twice, because the run was killed and did it again, is shown once: the first thing a new Tracker is told
    about a round makes readers forget what was written from that epoch on.
    """

    def __init__(self, folder: Path, *, confidence: float = 0.9) -> None:
        """confidence: of the plan's bootstrap intervals, for the words beside the curves."""
        self._folder = folder
        self._confidence = confidence
        self._writers: dict[str, SummaryWriter] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def epoch(self, round_number: int, line: Mapping[str, float]) -> None:
        """One line of a round's history.jsonl: `epoch`, `loss`, `seconds`, and figures such as `fer2013-val_accuracy`."""
        step = int(line["epoch"])
        scalars = {_tag(name): value for name, value in line.items() if name != "epoch"}
        self._write(f"round-{round_number}", step, scalars)

    def round(self, one: Round) -> None:
        """A finished round: figures, recalls, class sizes, gain, confusion matrices, and the same in words."""
        scalars: dict[str, float] = {"minutes": one.minutes}
        for name, measured in one.measured.items():
            scalars |= _figures(name, measured)
        for when, counts in (("before balancing", one.confident), ("after balancing", one.balanced)):
            scalars |= {f"classes {when}/{label}": counts.get(label, 0) for label in LABELS if counts}
        if one.gain:
            scalars |= {f"gain/{name}": value for name, value in one.gain.model_dump().items()}
        images = {f"confusion/{name}": confusion_picture(measured) for name, measured in one.measured.items()}
        words = report.round_report(one, confidence=self._confidence)
        self._write(ROUNDS, one.number, scalars, images=images, words=words)

    def close(self) -> None:
        with storage_errors():
            for writer in self._writers.values():
                writer.close()
        self._writers.clear()

    def _write(
        self, curves: str, step: int, scalars: Mapping[str, float], *, images: Mapping[str, Tensor] | None = None, words: str = ""
    ) -> None:
        """Everything of one step, and out to the file: what is kept back is lost when the run is killed."""
        with storage_errors():
            writer = self._writer(curves, from_step=step)
            for tag, value in scalars.items():
                writer.add_scalar(tag, value, step)
            for tag, image in (images or {}).items():
                writer.add_image(tag, image, step)
            if words:
                writer.add_text("report", words, step)
            writer.flush()

    def _writer(self, curves: str, *, from_step: int) -> SummaryWriter:
        if curves not in self._writers:
            self._writers[curves] = SummaryWriter(str(self._folder / curves), purge_step=from_step)
        return self._writers[curves]


def confusion_picture(measured: Measured) -> Tensor:
    """uint8 (1, H, W): a square per pair of truth (down) and verdict (across), white where all samples of a truth lie."""
    counts = torch.tensor(measured.confusion, dtype=torch.float32)
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    cells = (shares * 255).round().to(torch.uint8)
    return cells.repeat_interleave(CELL_PX, dim=0).repeat_interleave(CELL_PX, dim=1)[None]


def _tag(name: str) -> str:
    """`fer2013-val_accuracy` as `accuracy/fer2013-val`, so that TensorBoard draws a figure's sets side by side."""
    named = OF_A_SET.fullmatch(name)
    return f"{named['figure']}/{named['set']}" if named else f"fit/{name}"


def _figures(name: str, measured: Measured) -> dict[str, float]:
    figures = measured.model_dump(include={"accuracy", "macro_f1", "mean_recall", "calibration_error"})
    recalls = {f"recall on {name}/{label}": value for label, value in measured.recall.items()}
    return {f"{figure}/{name}": value for figure, value in figures.items()} | recalls
