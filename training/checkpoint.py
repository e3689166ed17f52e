"""The folder of one fit: where it stands, and what it has seen so far.

<fit>/
  checkpoint.pt    every state that the next epoch depends on; replaced as a whole after each epoch
  history.jsonl    one line per finished epoch, written from the checkpoint
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from shared.errors import RunMismatch
from shared.videos import storage_errors, write_durably


class Stateful(Protocol):
    """Modules, optimisers and schedules."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> object: ...


class Checkpoint:
    """A fit that can be killed at any moment and goes on from its last finished epoch."""

    def __init__(self, folder: Path, *, identity: Mapping[str, object]) -> None:
        """`identity` is everything that decides how the fit goes; only the same fit is resumed."""
        with storage_errors():
            folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._identity = json.dumps(identity, sort_keys=True)
        self.history: list[dict[str, float]] = []

    @property
    def minutes(self) -> float:
        """Wall-clock time of all finished epochs, over every process that worked on them."""
        return sum(line["seconds"] for line in self.history) / 60

    def resume(self, parts: Mapping[str, Stateful]) -> int:
        """Load the last checkpoint into `parts`; returns the epoch to go on with. Raises RunMismatch."""
        path = self._folder / "checkpoint.pt"
        if not path.exists():
            return 0
        saved = torch.load(path, weights_only=True, map_location="cpu")
        if saved["identity"] != self._identity:
            raise RunMismatch(f"{self._folder} was begun as {saved['identity']}, this is {self._identity}")
        for name, part in parts.items():
            part.load_state_dict(saved["parts"][name])
        self.history = saved["history"]
        return len(self.history)

    def finish_epoch(self, parts: Mapping[str, Stateful], line: dict[str, float]) -> None:
        """Make an epoch count."""
        self.history.append(line)
        states = {name: part.state_dict() for name, part in parts.items()}
        content = io.BytesIO()
        torch.save({"identity": self._identity, "history": self.history, "parts": states}, content)
        with storage_errors():
            write_durably(self._folder / "checkpoint.pt", content.getvalue())
            write_durably(self._folder / "history.jsonl", "".join(json.dumps(each) + "\n" for each in self.history).encode())
