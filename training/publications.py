"""The publications there were: requests to make a run's candidate a release, which take a minute of measuring and warming up each."""

import re
import secrets
from pathlib import Path
from typing import ClassVar

from shared.errors import PublicationNotFound
from training.ledger import Entry, Ledger


class Publication(Entry):
    """One request to publish."""

    ID: ClassVar = re.compile(r"pb_[0-9a-f]{32}")
    NOT_FOUND: ClassVar = PublicationNotFound

    run: str
    """The run whose candidate it is."""
    promote: bool = True
    """Whether the release becomes champion at once."""
    version: int | None = None
    """The release that it became."""


class Publications(Ledger[Publication]):
    """Kept in the folder of runs, beside them."""

    def __init__(self, folder: Path, *, most_deaths: int = 3) -> None:
        super().__init__(folder, kind=Publication, reached=lambda _folder: 0, most_deaths=most_deaths)

    def accept(self, run_id: str, *, promote: bool) -> Publication:
        """Promise it."""
        return self.create(Publication(id=f"pb_{secrets.token_hex(16)}", run=run_id, promote=promote))
