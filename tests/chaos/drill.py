"""What every row is given, and what it says in the end."""

import json
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any, Final

from tests.chaos.clips import make_clips
from tests.chaos.supervise import model_repository

PACKAGES: Final = ("av", "fastapi", "redis", "torch", "tritonclient", "uvicorn")


@dataclass(frozen=True, kw_only=True)
class Drill:
    """How a row is run."""

    folder: Path
    """The row's own."""
    common: Path
    """Of all rows of a run: what takes long to make."""
    seed: int
    scale: float = 1.0
    """1 is the full size of the reference; 0.1 is a tenth of it, for a laptop."""

    def size(self, full: int) -> int:
        return max(1, round(full * self.scale))

    def chance(self) -> random.Random:
        return random.Random(self.seed)

    def clips(self, count: int, *, seconds: float = 2.0) -> list[Path]:
        return make_clips(self.common / "clips", count, seconds=seconds)

    def models(self) -> Path:
        return model_repository(self.common)

    def say(self, line: str) -> None:
        """For whoever waits; what counts is the verdict."""
        print(f"    {line}", file=sys.stderr, flush=True)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a row came to. `value` has the figures that the mark is about."""

    id: str
    n: int
    passed: bool
    value: Mapping[str, Any]
    mark: str

    def line(self, *, seed: int) -> str:
        fields = asdict(self)
        return json.dumps(
            {"id": self.id, "n": self.n, "pass": fields.pop("passed"), "value": self.value, "mark": self.mark, "seed": seed}
            | {"versions": versions()}
        )


Row = Callable[[Drill], Verdict]


def versions() -> dict[str, str]:
    return {"python": python_version(), **{package: version(package) for package in PACKAGES}}
