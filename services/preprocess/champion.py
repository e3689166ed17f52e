"""Which release judges a job, and whether it can right now."""

import logging
from collections.abc import Callable
from pathlib import Path

from shared import releases
from shared.errors import InferenceUnavailable, ModelVersionUnavailable, ReleaseError
from shared.queue import CHAMPION, WorkerQueue
from shared.releases import Release
from shared.signatures import TrustedKeys

log = logging.getLogger(__name__)


class Champion:
    """The release with the alias `champion`; where nobody has given the alias, the newest one takes it."""

    def __init__(self, *, queue: WorkerQueue, models: Path, ready: Callable[[Release], bool], trusted: TrustedKeys | None = None) -> None:
        """models: the model repository. ready: whether the model server answers for a release. trusted: who has to have signed it."""
        self._queue = queue
        self._models = models
        self._ready = ready
        self._trusted = trusted
        self._known: dict[int, Release] = {}
        self._trouble = ""

    def serving(self) -> Release | None:
        """The champion, or None while it is not published whole or the model server does not answer for it. Raises QueueUnavailable."""
        try:
            release = self._checked(self._version())
        except (ReleaseError, OSError) as error:
            self._note(f"{type(error).__name__}: {error}")
            return None
        if not self._ready(release):
            self._note(f"{release.name} is not ready")
            return None
        self._note("")
        return release

    def asked(self, version: int) -> Release:
        """The release that a client asked for.

        Raises ReleaseError when it is not published whole, and InferenceUnavailable while the model server does not answer for it.
        """
        release = self._checked(version)
        if not self._ready(release):
            raise InferenceUnavailable(f"release {version} is not loaded")
        return release

    def _version(self) -> int:
        version = self._queue.alias(CHAMPION)
        if version is not None:
            return version
        published = releases.published(self._models)
        if not published:
            raise ModelVersionUnavailable("nothing is published")
        return self._queue.default_alias(CHAMPION, published[-1])

    def _checked(self, version: int) -> Release:
        """A release is immutable, so its digests are checked once."""
        if version not in self._known:
            self._known[version] = releases.load(self._models, version, trusted=self._trusted)
            log.info("release", extra={"release": version})
        return self._known[version]

    def _note(self, trouble: str) -> None:
        """Log what keeps the champion from serving, once each time it changes."""
        if trouble != self._trouble:
            log.warning("no model: %s", trouble) if trouble else log.info("the model is ready")
            self._trouble = trouble
