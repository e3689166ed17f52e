"""What a benchmark says: one line per figure, for people and for machines."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number. A comparison is a ratio between two things that were measured in the same run."""

    bench: str
    name: str
    value: float
    unit: str
    aim: str = ""
    """What we want it to be, in words; empty for a figure that is only told."""
    reached: bool | None = None
    """Whether the aim was reached; None without an aim."""
    error: float | None = None
    """Its standard error, in the same unit, where chance had a say."""

    def line(self) -> str:
        verdict = "" if self.reached is None else f"   {'reached' if self.reached else 'NOT REACHED'}: {self.aim}"
        unit = self.unit if self.error is None else f"{self.unit} ± {self.error:.1f}"
        return f"{self.bench:<9} {self.name:<58} {self.value:>10.4g} {unit:<14}{verdict}"


def show(figures: Iterable[Figure]) -> None:
    """As a table, then as one JSON object per line."""
    kept = list(figures)
    print("\n".join(figure.line() for figure in kept))
    print("\n".join(json.dumps(asdict(figure)) for figure in kept))
