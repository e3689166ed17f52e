"""Makes and uses signing keys: `python -m training.keys --out DIR`, and `--sign CANDIDATE --key DIR/signing.pem`.

    DIR/signing.pem     the private key, for whoever publishes and nobody else
    DIR/trusted.pem     the public key, for whoever checks; keys of several publishers may stand in one such file

A repository that was there before its first key holds unsigned releases, which workers would refuse from then on. `--models` has the
new key sign them, once: before there was a key, whoever could write the folder was trusted.
"""

import argparse
import logging
import os
from pathlib import Path
from typing import Final

from shared.errors import MienError, ReleaseError
from shared.releases import load, published
from shared.signatures import Signer
from shared.videos import storage_errors, write_durably
from training.repository import Repository

log = logging.getLogger(__name__)

PRIVATE: Final = "signing.pem"
PUBLIC: Final = "trusted.pem"


def ensure(folder: Path, *, public: Path | None = None, models: Path | None = None) -> Signer:
    """The folder's key, made now where there is none yet; a new one signs what `models` holds. `public` is where the public key goes.

    Safe to be killed at any moment: the key appears when all that it has to sign is signed. Raises KeyUnusable where the file holds
    something else, PublicationConflict while somebody publishes, and StorageError.
    """
    private, public = folder / PRIVATE, public or folder / PUBLIC
    with storage_errors():
        folder.mkdir(parents=True, exist_ok=True)
    if private.exists():
        signer = Signer.load(private)
    else:
        signer = Signer.generate()
        if models is not None:
            sign_all(models, signer)
        with storage_errors():
            _write_secret(private, signer.pem())
    if not public.exists():
        with storage_errors():
            write_durably(public, signer.trusted.pem())
    return signer


def sign_all(models: Path, signer: Signer) -> None:
    """Sign every release of a model repository that is still what was published."""
    repository = Repository(models)
    with repository.changing():
        for version in published(models):
            try:
                load(models, version)
            except ReleaseError as error:
                log.warning("release %d is not signed: %s %s", version, error.title(), error.detail)
            else:
                repository.sign(version, signer)


def _write_secret(path: Path, content: bytes) -> None:
    """`write_durably` for a file that nobody else may ever have been able to read."""
    mask = os.umask(0o077)
    try:
        write_durably(path, content)
    finally:
        os.umask(mask)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.keys", description="Make a pair of signing keys, or sign a candidate.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, help=f"folder for {PRIVATE} and {PUBLIC}; keys that are there stay")
    what.add_argument("--sign", type=Path, help="folder of a candidate")
    parser.add_argument("--key", type=Path, help="with --sign: PEM file of the private key")
    parser.add_argument("--public", type=Path, help=f"with --out: another place for {PUBLIC}")
    parser.add_argument("--models", type=Path, help="with --out: a model repository whose releases a new key signs")
    arguments = parser.parse_args()
    if bool(arguments.sign) != bool(arguments.key):
        parser.error("--sign and --key belong together")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if arguments.out:
            ensure(arguments.out, public=arguments.public, models=arguments.models)
            log.info("the keys are in %s", arguments.out)
        else:
            with storage_errors():
                Signer.load(arguments.key).sign(arguments.sign)
            log.info("%s is signed", arguments.sign)
    except MienError as error:
        parser.exit(1, f"{error.title()} {error.detail}\n")


if __name__ == "__main__":
    main()
