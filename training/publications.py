"""The publications there were: requests to make a run's candidate a release, which take a minute of measuring and warming up each."""

import os
import re
import secrets
from pathlib import Path
from typing import ClassVar

from shared.errors import PublicationNotFound, PublicationOver
from training.ledger import Entry, Ledger


class Publication(Entry):
    """One request to publish."""

    ID: ClassVar = re.compile(r"pb_[0-9a-f]{32}")
    NOT_FOUND: ClassVar = PublicationNotFound
    CONFLICT: ClassVar = PublicationOver

    run: str
    """The run whose candidate it is."""
    promote: bool = True
    """Whether the release becomes champion at once."""
    committed: bool = False
    """Whether it has come to where the release gets its name. From there on it is finished, by this attempt or by the next one: it can
    no longer be canceled."""
    version: int | None = None
    """The release that it became."""

    @property
    def can_be_canceled(self) -> bool:
        return super().can_be_canceled and not self.committed


class Publications(Ledger[Publication]):
    """Kept in the folder of runs, beside them."""

    def __init__(self, folder: Path, *, most_deaths: int = 3) -> None:
        super().__init__(folder, kind=Publication, reached=lambda _folder: 0, most_deaths=most_deaths)

    def accept(self, run_id: str, *, promote: bool) -> Publication:
        """Promise it."""
        return self.create(Publication(id=f"pb_{secrets.token_hex(16)}", run=run_id, promote=promote))

    def commit(self, publication_id: str) -> None:
        """The repository is about to change. Raises SystemExit, as being told to stop does, where somebody has canceled it before that."""
        with self._changing():
            publication = self.get(publication_id)
            if publication.cancel_requested:
                raise SystemExit(os.EX_TEMPFAIL)
            self._write(publication, committed=True)
