"""The model repository as the gateway sees it: what each release says about itself. Nothing is written, and no weights are read."""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from services.gateway.problems import ModelCardMissing
from shared.errors import ModelContractMismatch, ModelDigestMismatch, ReleaseError, StorageError
from shared.releases import CARD, MANIFEST, Release, folder_name, parse, published, read
from shared.signatures import TrustedKeys
from shared.videos import storage_errors

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Published:
    """One release of the repository."""

    release: Release
    published_ms: int
    """When its `release.json` was written here, in Unix milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A release's model card."""

    markdown: bytes
    sha256: str


class Models:
    """The releases of a model repository. Blocking.

    Whether the weights are those that were published is the business of those who serve them.
    """

    def __init__(self, root: Path, *, trusted: TrustedKeys | None = None) -> None:
        """trusted: who has to have signed a release; what none of them has signed counts as broken. None takes everything."""
        self._root = root
        self._trusted = trusted

    def newest(self, *, below: int | None = None) -> Iterator[Published]:
        """The releases, newest first, beginning with the one before version `below`. A broken one is left out, and logged."""
        for version in reversed(published(self._root)):
            if below is None or version < below:
                try:
                    yield self.read(version)
                except (ReleaseError, StorageError) as error:
                    log.warning("release left out", extra={"release": version}, exc_info=error)

    def read(self, version: int) -> Published:
        """Raises ModelVersionUnavailable, ReleaseUnsigned, ModelContractMismatch when its folder holds no such release, StorageError."""
        folder = self._root / folder_name(version)
        try:
            with storage_errors():
                release = parse(self._trusted.check(folder)) if self._trusted else read(folder / MANIFEST)
                written_ns = (folder / MANIFEST).stat().st_mtime_ns
        except ModelContractMismatch as error:  # which quotes what it read
            raise ModelContractMismatch(f"what {folder_name(version)} says about itself cannot be read") from error
        if release.version != version:
            raise ModelContractMismatch(f"{folder_name(version)} says that it is release {release.version}")
        return Published(release=release, published_ms=written_ns // 1_000_000)

    def card(self, version: int) -> Card:
        """As it was published. Raises ModelCardMissing, ModelDigestMismatch when it is another one by now, and what `read` does."""
        expected = self.read(version).release.files.get(CARD)
        if expected is None:
            raise ModelCardMissing(f"{folder_name(version)} was published without one")
        card = self._root / folder_name(version) / CARD
        with storage_errors():
            markdown = card.read_bytes() if card.is_file() else b""
        if hashlib.sha256(markdown).hexdigest() != expected:
            raise ModelDigestMismatch(f"{folder_name(version)}/{CARD}")
        return Card(markdown=markdown, sha256=expected)
