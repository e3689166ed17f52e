"""A candidate becomes the champion, or nothing happens.

    candidate/ -> admission -> gate -> graphs, signature, rename -> Triton: load, warm up, same numbers -> history -> alias

The alias moves last, in one step, and names the release it came from; `rollback` moves it back there. Whatever stops a
publication before that, the champion serves on: a candidate that is refused leaves nothing behind, and a process that is killed
leaves the repository as it was or with one more release, which publishing the same candidate again takes up.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import torch

from shared.errors import (
    CandidateNotNewer,
    InferenceError,
    InferenceInvalidOutput,
    ModelVersionUnavailable,
    NothingToRollBack,
    QueueUnavailable,
)
from shared.queue import CHAMPION, Alias, WorkerQueue
from shared.releases import WEIGHTS, Release, check_servable, load, published
from shared.signatures import Signer, TrustedKeys
from training.admission import admitted
from training.datasets import read_clips
from training.export import add, read_release_network
from training.gate import Contestant, Gate, checked, require
from training.graphs import are_close, examples
from training.model_server import ModelServer
from training.network import Network
from training.repository import Check, Repository, same

log = logging.getLogger(__name__)

OTHER_ALIASES: Final[tuple[Alias, ...]] = ("canary", "shadow")


class Publisher:
    """One model repository with the Triton that serves it and the Redis that knows its aliases.

    Every call may raise ReleaseError, InferenceError, StorageError or QueueUnavailable. Then nothing has changed, but for a
    publication that Redis's silence stopped at its last step: the release is there, and `promote` makes it champion. A release that
    served as the newest one may have been given the alias that it served without.
    """

    def __init__(
        self,
        *,
        models: Path,
        frozen: Sequence[Path],
        signer: Signer,
        trusted: TrustedKeys,
        aliases: WorkerQueue,
        triton_http: str,
        triton_secret: str = "",
        gate: Gate | None = None,
        keep_loaded: int = 2,
    ) -> None:
        """frozen: crop stores that candidates and champion are compared on. signer: signs what is published. trusted: whose candidates
        and releases are believed. keep_loaded: champions that Triton holds, the present one among them; folders are always kept.
        """
        self._models = models
        self._repository = Repository(models)
        self._frozen = tuple(frozen)
        self._signer = signer
        self._trusted = trusted
        self._aliases = aliases
        self._triton = partial(ModelServer, triton_http, secret=triton_secret)
        self._gate = gate or Gate()
        self._keep_loaded = keep_loaded

    def publish(self, candidate: Path, *, promote: bool = True, commit: Callable[[], None] = lambda: None) -> Release:
        """Make the candidate a release, and unless told otherwise the champion; the release as it was published.

        Publishing the same candidate again takes up where a killed publication stopped. `commit` is called once, before the repository is
        changed; what it raises stops the publication. Raises CandidateRefused with the
        `reasons`, PublicationConflict while somebody else publishes, InferenceError where Triton does not give the network's numbers.
        """
        with self._repository.changing():
            release = admitted(candidate, trusted=self._trusted)
            begun = self._begun(release)
            if begun and self._aliases.alias(CHAMPION) == release.version:
                return self._published(release.version)
            champion = self._champion(apart_from=release.version)
            network = read_release_network(release, candidate / WEIGHTS)
            checks = self._measured(Contestant(release=release, network=network), champion)
            commit()
            self._settle(champion)
            if begun:
                self._repository.link(release.version)
            else:
                add(release, candidate, self._repository, signer=self._signer)
            with self._withdrawn_unless_proven(release.version, fresh=not begun):
                self._prove(release, network)
            self._repository.remember(release.version, champion=champion, checks=checks)
            if promote:
                self._promote(release.version)
            return self._published(release.version)

    def promote(self, version: int) -> None:
        """Make a published release the champion, whatever it was measured against."""
        with self._repository.changing():
            release = self._published(version)
            self._prove(release, read_release_network(release, self._repository.folder(version) / WEIGHTS))
            self._settle(self._champion(apart_from=version))
            self._promote(version)

    def rollback(self) -> int:
        """Make the champion before this one the champion again; its version.

        It takes no lock, so that it need not wait for a publication that is under way. Raises NothingToRollBack.
        """
        earlier = self._aliases.alias_history(CHAMPION)
        if not earlier:
            raise NothingToRollBack("no release was champion before this one")
        self._published(earlier[0])
        with self._triton() as triton:
            if not triton.is_ready(earlier[0]):
                triton.load(earlier[0])
        version = self._aliases.rollback(CHAMPION, to=earlier[0])
        log.info("rolled back", extra={"release": version})
        return version

    # --- before anything changes -------------------------------------------------------------------------------------

    def _begun(self, release: Release) -> bool:
        """Whether a publication of this very candidate got as far as the rename. Raises CandidateNotNewer."""
        highest = self._repository.highest()
        if release.version > highest:
            return False
        if release.version == highest and highest in published(self._models) and same(release, self._published(highest)):
            return True
        reason = f"version {release.version} is not above {highest}, the highest that was ever published"
        raise CandidateNotNewer(reason, reasons=[reason])

    def _champion(self, *, apart_from: int) -> int | None:
        """The release that serves; where nobody has given the alias, the newest one, as the worker would choose."""
        champion = self._aliases.alias(CHAMPION)
        if champion is None:
            champion = max((version for version in published(self._models) if version != apart_from), default=None)
        return champion if champion != apart_from else None

    def _measured(self, candidate: Contestant, champion: int | None) -> tuple[Check, ...]:
        """Raises CandidateWorse."""
        frozen = [read_clips(folder) for folder in self._frozen]
        checks = checked(candidate, self._contestant(champion) if champion else None, frozen, self._gate)
        require(checks)
        return checks

    def _contestant(self, version: int) -> Contestant:
        release = self._published(version)
        return Contestant(release=release, network=read_release_network(release, self._repository.folder(version) / WEIGHTS))

    def _published(self, version: int) -> Release:
        """A release that may serve: whole, signed, and for this code's crops. Raises ReleaseError."""
        if version not in published(self._models):
            raise ModelVersionUnavailable(f"there is no release {version}")
        release = load(self._models, version, trusted=self._trusted)
        check_servable(release)
        return release

    def _settle(self, champion: int | None) -> None:
        """Give what serves without anybody's word the alias, where nobody has it.

        So there is a way back to it, and no worker takes a release for the newest one, and thus the champion, before it is proven.
        """
        if champion is not None:
            self._aliases.default_alias(CHAMPION, champion)

    # --- while the champion serves on --------------------------------------------------------------------------------

    @contextmanager
    def _withdrawn_unless_proven(self, version: int, *, fresh: bool) -> Iterator[None]:
        """Around what may still go wrong with a release that is on the disk: one that was there before stays."""
        try:
            yield
        except BaseException:
            if fresh:
                self._repository.withdraw(version)
            raise

    def _prove(self, release: Release, network: Network) -> None:
        """Have Triton load the release, and hold it to the eager network's numbers. Unloads what it should not have loaded."""
        with self._triton() as triton:
            was_ready = triton.is_ready(release.version)
            try:
                if not was_ready:
                    triton.load(release.version)
                check_served(triton, release, network)
            except BaseException:  # a SIGTERM as well: nobody else would unload it
                if not was_ready:
                    _unload(triton, release.version)
                raise

    # --- the one step ------------------------------------------------------------------------------------------------

    def _promote(self, version: int) -> None:
        self._aliases.promote(CHAMPION, version)
        log.info("promoted", extra={"release": version})
        with self._triton() as triton:
            self._unload_old(triton)

    def _unload_old(self, triton: ModelServer) -> None:
        """Give the memory of former champions back. Jobs that were pinned to one are begun anew with the champion."""
        try:
            champions = (self._aliases.alias(CHAMPION), *self._aliases.alias_history(CHAMPION))[: self._keep_loaded]
            keep = {*champions, *(self._aliases.alias(alias) for alias in OTHER_ALIASES)}
            for version in triton.loaded() - keep:
                triton.unload(version)
        except (InferenceError, QueueUnavailable) as error:  # the promotion is done; the next one tries again
            log.warning("could not unload: %s", error.detail)


@torch.inference_mode()
def check_served(triton: ModelServer, release: Release, network: Network) -> None:
    """Raise InferenceInvalidOutput unless Triton gives the eager network's numbers, within graphs.TOLERANCE.

    The eager network computes in float32 on a CPU. A Triton on a GPU has to run with NVIDIA_TF32_OVERRIDE=0: libtorch otherwise lets
    convolutions round their inputs to TF32's ten bits of mantissa, steps of 1e-3, with which a right release may be refused.
    """
    faces, features, mask = examples(release, batch=2, frames=3)
    answers = {
        "frames": (network.encoder(faces), triton.frames(release, faces)),
        "clip": (network.clip(features, mask), triton.clip(release, features, mask)),
    }
    for graph, (expected, actual) in answers.items():
        if not are_close(expected, actual):
            raise InferenceInvalidOutput(f"Triton's {release.model(graph)} does not give the network's numbers")


def _unload(triton: ModelServer, version: int) -> None:
    """Undo a load that did not lead anywhere; what went wrong with it is the caller's to say."""
    try:
        triton.unload(version)
    except InferenceError as error:
        log.warning("could not unload release %d: %s", version, error.detail)
