"""The samples of a crop store, written by hand."""

from collections.abc import Iterable
from pathlib import Path

from shared.crops import Sample, sample_line


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Write samples.jsonl."""
    path.write_text("".join(sample_line(sample) for sample in samples), encoding="utf-8")
