"""From weights to a release that Triton serves: `python -m training.export --weights training/releases/000001 --models models`.

    weights folder                        model repository
      release.json                          mien_000001/          release.json, weights.safetensors, both graphs
      weights.safetensors     ------>       mien_000001_frames -> mien_000001/frames
      MODEL_CARD.md, if any                 mien_000001_clip   -> mien_000001/clip

Weights travel as safetensors, which cannot carry code; the TorchScript is built here, from the network's own source. The
folder appears under its final name only when it is whole, on the disk, signed if there is a key, and answers with the eager
network's numbers. Nothing is measured and nobody is asked: that is what `training.publish` is for.
"""

import argparse
import logging
import shutil
from pathlib import Path

from shared.errors import MienError, ModelContractMismatch, ModelDigestMismatch, ReleaseError, ReleaseUnsigned
from shared.releases import CARD, MANIFEST, WEIGHTS, Release, file_sha256, load, published, read
from shared.signatures import Signer
from shared.videos import storage_errors
from training.graphs import write_graphs
from training.network import Network, stage_widths
from training.plan import Design
from training.repository import Repository, same
from training.weights import read_network

log = logging.getLogger(__name__)


def export(weights: Path, models: Path, *, signer: Signer | None = None) -> Path:
    """Publish a weights folder as a release in a model repository; the path is the release's folder.

    Publishing the same weights again changes nothing but missing links and a missing signature. Raises ReleaseError where another
    release holds the version, ModelContractMismatch where the weights are not the network's, ModelDigestMismatch where they
    are not the ones that `release.json` names, PublicationConflict while somebody else publishes, and InsufficientStorage.
    """
    release = described(weights)
    repository = Repository(models)
    with repository.changing():
        if release.version in published(models):
            _check_same(release, models)
            repository.link(release.version)
            if signer is not None and not is_signed(repository.folder(release.version), signer):
                repository.sign(release.version, signer)
        else:
            add(release, weights, repository, signer=signer)
        if release.version not in {entry.version for entry in repository.history().releases}:
            repository.remember(release.version)
    return repository.folder(release.version)


def described(weights: Path) -> Release:
    """A weights folder's release, naming the digest of each file that is published with it."""
    release = read(weights / MANIFEST)
    files = {name: _digest(release, weights / name) for name in (WEIGHTS, CARD) if name != CARD or (weights / name).exists()}
    return release.model_copy(update={"files": files})


def add(release: Release, weights: Path, repository: Repository, *, signer: Signer | None) -> None:
    """Build and publish a release that is not there yet."""
    repository.add(release.version, lambda folder: _write(release, weights, folder, signer=signer))


def read_release_network(release: Release, weights: Path) -> Network:
    """The release's network in fp32, ready to judge. Raises ModelContractMismatch unless the weights are those of its width."""
    *_, feature_size = stage_widths(release.width)
    if feature_size != release.feature_size:
        raise ModelContractMismatch(f"width {release.width} gives features of {feature_size}, not {release.feature_size}")
    return read_network(weights, Design(width=release.width))


def _digest(release: Release, path: Path) -> str:
    with storage_errors():
        try:
            actual = file_sha256(path)
        except FileNotFoundError:
            raise ReleaseError(f"no {path.name} in {path.parent}") from None
    _check_digest(release, path.name, actual)
    return actual


def _check_digest(release: Release, name: str, actual: str) -> None:
    expected = release.files.get(name, actual)
    if actual != expected:
        raise ModelDigestMismatch(name, expected=expected, actual=actual)


def _check_same(release: Release, models: Path) -> None:
    """A release is immutable: raise ReleaseError unless the published one has the same weights and says the same about them."""
    if not same(release, load(models, release.version)):
        raise ReleaseError(f"{release.name} is published with other weights or another {MANIFEST}; releases are never overwritten")


def is_signed(folder: Path, signer: Signer) -> bool:
    try:
        signer.trusted.check(folder)
    except ReleaseUnsigned:
        return False
    return True


def _write(release: Release, weights: Path, folder: Path, *, signer: Signer | None) -> None:
    """Everything is built from copies whose digests are right, so that nothing can change underneath."""
    for name in release.files:
        shutil.copyfile(weights / name, folder / name)
        _check_digest(release, name, file_sha256(folder / name))
    write_graphs(release, read_release_network(release, folder / WEIGHTS), folder)
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): file_sha256(path) for path in written}
    (folder / MANIFEST).write_text(release.model_copy(update={"files": files}).model_dump_json(indent=1), encoding="utf-8")
    if signer is not None:
        signer.sign(folder)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.export", description="Publish weights as a release that Triton serves.")
    parser.add_argument("--weights", type=Path, required=True, help=f"folder with {MANIFEST} and {WEIGHTS}")
    parser.add_argument("--models", type=Path, required=True, help="Triton's model repository")
    parser.add_argument("--key", type=Path, help="PEM file of the private key that signs the release")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        signer = Signer.load(arguments.key) if arguments.key else None
        folder = export(arguments.weights, arguments.models, signer=signer)
    except MienError as error:
        parser.exit(1, f"{error.title()} {error.detail}\n")
    log.info("%s is in %s", folder.name, arguments.models)


if __name__ == "__main__":
    main()
