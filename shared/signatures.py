"""Who vouches for a release: an ed25519 signature over the bytes of its `release.json`, in `release.json.sig` beside it.

`release.json` names the digest of every other file, so one signature covers the folder. The signature file holds the 64 bytes as
they are (RFC 8032), and keys are PEM files, so that other tools can check both:

    openssl pkeyutl -verify -pubin -inkey trusted.pem -rawin -in release.json -sigfile release.json.sig
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.errors import KeyUnusable, ModelVersionUnavailable, ReleaseUnsigned
from shared.releases import CARD, MANIFEST, SIGNATURE, WEIGHTS
from shared.videos import write_durably

_PEM_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----", re.DOTALL)

_HALF_WRITTEN: Final = re.compile(rf"\.({'|'.join(map(re.escape, (MANIFEST, SIGNATURE, WEIGHTS, CARD)))})\.[0-9a-f]{{32}}")
"""What `write_durably` calls a file that is not whole yet."""


class TrustedKeys:
    """The public keys whose signatures count. Several at once let an old key go on counting while a new one takes over."""

    def __init__(self, keys: Iterable[Ed25519PublicKey]) -> None:
        self._keys = tuple(keys)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a PEM file with one public key or more. Raises KeyUnusable when it holds none, or anything else."""
        keys = [_public_key(block[0], path) for block in _PEM_BLOCK.finditer(_read(path))]
        if not keys:
            raise KeyUnusable(f"no public key in {path.name}")
        return cls(keys)

    def pem(self) -> bytes:
        """What `load` reads."""
        return b"".join(key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo) for key in self._keys)

    def check(self, folder: Path) -> bytes:
        """The bytes of a folder's `release.json`, which one of these keys has signed.

        Whoever goes on reading should read these bytes: the file may be another one by then. Raises ReleaseUnsigned, and
        ModelVersionUnavailable when there is no `release.json`.
        """
        try:
            manifest = (folder / MANIFEST).read_bytes()
        except FileNotFoundError:
            raise ModelVersionUnavailable(f"no {MANIFEST} in {folder.name}") from None
        try:
            signature = (folder / SIGNATURE).read_bytes()
        except FileNotFoundError:
            raise ReleaseUnsigned(f"no {SIGNATURE} in {folder.name}") from None
        if not any(_signed_by(key, signature, manifest) for key in self._keys):
            raise ReleaseUnsigned(f"{folder.name}/{MANIFEST} is not what a trusted key signed")
        return manifest


class Signer:
    """A private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> Self:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a PEM file with an ed25519 key that no password protects. Raises KeyUnusable."""
        try:
            key = serialization.load_pem_private_key(_read(path), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyUnusable(f"{path.name} holds no private key without a password") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyUnusable(f"the key in {path.name} is not an ed25519 key")
        return cls(key)

    @property
    def trusted(self) -> TrustedKeys:
        """What others need to check this key's signatures."""
        return TrustedKeys([self._key.public_key()])

    def pem(self) -> bytes:
        """What `load` reads: a secret."""
        return self._key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    def signature(self, folder: Path) -> bytes:
        """What belongs into a folder's `release.json.sig`. Raises OSError."""
        return self._key.sign((folder / MANIFEST).read_bytes())

    def sign(self, folder: Path) -> None:
        """Write `release.json.sig`, durably, and remove what writers that were killed left beside it. Raises OSError.

        A candidate that a resumed run writes again may hold such leftovers, and would be refused for them.
        """
        for path in folder.iterdir():
            if _HALF_WRITTEN.fullmatch(path.name):
                path.unlink()
        write_durably(folder / SIGNATURE, self.signature(folder))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyUnusable(f"{path.name}: {error.strerror}") from error


def _public_key(pem: bytes, path: Path) -> Ed25519PublicKey:
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnusable(f"{path.name} holds something else than public keys") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyUnusable(f"a key in {path.name} is not an ed25519 key")
    return key


def _signed_by(key: Ed25519PublicKey, signature: bytes, content: bytes) -> bool:
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True
