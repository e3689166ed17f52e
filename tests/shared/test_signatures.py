"""Who may vouch for a release, and what a tampered one is told."""

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from shared import releases
from shared.errors import KeyUnusable, ModelContractMismatch, ModelDigestMismatch, ModelVersionUnavailable, ReleaseError, ReleaseUnsigned
from shared.releases import Release, file_sha256, folder_name, load
from shared.signatures import SIGNATURE, Signer, TrustedKeys

SIGNER = Signer.generate()
STRANGER = Signer.generate()


def published(models: Path, version: int = 1) -> Path:
    """A signed release with one file in each graph."""
    folder = models / folder_name(version)
    files = [f"{graph}/1/model.pt" for graph in releases.GRAPHS]
    for name in files:
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(name)
    release = Release(
        version=version,
        size=32,
        width=0.25,
        feature_size=128,
        training={},
        metrics={},
        data=(),
        commit="c",
        notes="",
        files={name: file_sha256(folder / name) for name in files},
    )
    (folder / "release.json").write_text(release.model_dump_json())
    SIGNER.sign(folder)
    return folder


def test_a_signed_release_is_loaded_by_whoever_trusts_its_key(tmp_path: Path) -> None:
    published(tmp_path)
    both = TrustedKeys.load(written(tmp_path / "both.pem", STRANGER.trusted.pem() + SIGNER.trusted.pem()))
    assert load(tmp_path, 1, trusted=SIGNER.trusted) == load(tmp_path, 1, trusted=both) == load(tmp_path, 1)


def test_a_key_that_is_not_trusted_counts_for_nothing(tmp_path: Path) -> None:
    published(tmp_path)
    with pytest.raises(ReleaseUnsigned):
        load(tmp_path, 1, trusted=STRANGER.trusted)


def edited(folder: Path) -> None:
    path = folder / "release.json"
    path.write_text(path.read_text().replace('"notes":""', '"notes":"perfect"'))


def cut(folder: Path) -> None:
    (folder / SIGNATURE).write_bytes((folder / SIGNATURE).read_bytes()[:63])


@pytest.mark.parametrize("harm", [edited, cut, lambda folder: (folder / SIGNATURE).unlink()], ids=["edited", "cut", "unsigned"])
def test_what_nobody_signed_is_refused(tmp_path: Path, harm) -> None:
    harm(published(tmp_path))
    with pytest.raises(ReleaseUnsigned):
        load(tmp_path, 1, trusted=SIGNER.trusted)


def another_version(folder: Path) -> None:
    """Triton serves the highest number of a model's folder."""
    (folder / "frames" / "2").mkdir()
    (folder / "frames" / "2" / "model.pt").write_text("code")


def linked_folder(folder: Path) -> None:
    (folder / "frames").rename(folder.parent / "elsewhere")
    (folder / "frames").symlink_to("../elsewhere")


def linked_file(folder: Path) -> None:
    (folder / "frames/1/model.pt").rename(folder.parent / "elsewhere.pt")
    (folder / "frames/1/model.pt").symlink_to("../../../elsewhere.pt")


def hijacked_name(folder: Path) -> None:
    (folder.parent / "evil").mkdir()
    (folder.parent / "mien_000001_frames").symlink_to("evil")


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (another_version, ModelContractMismatch),
        (linked_folder, ModelContractMismatch),
        (linked_file, ModelDigestMismatch),
        (hijacked_name, ModelContractMismatch),
        (lambda folder: (folder / "frames/1/model.pt").write_text("code"), ModelDigestMismatch),
        (lambda folder: (folder / "release.json").unlink(), ModelVersionUnavailable),
    ],
    ids=["another-version", "linked-folder", "linked-file", "hijacked-name", "other-file", "no-manifest"],
)
def test_a_signature_covers_what_triton_would_run(tmp_path: Path, harm, error: type[ReleaseError]) -> None:
    harm(published(tmp_path))
    with pytest.raises(error):
        load(tmp_path, 1, trusted=SIGNER.trusted)


def test_a_signed_release_does_not_pass_for_another_version(tmp_path: Path) -> None:
    shutil.copytree(published(tmp_path, 1), tmp_path / folder_name(2))
    with pytest.raises(ModelContractMismatch, match="mien_000002 holds release 1"):
        load(tmp_path, 2, trusted=SIGNER.trusted)


def test_keys_come_back_from_their_files(tmp_path: Path) -> None:
    folder = published(tmp_path)
    Signer.load(written(tmp_path / "private.pem", SIGNER.pem())).sign(folder)
    TrustedKeys.load(written(tmp_path / "public.pem", SIGNER.trusted.pem())).check(folder)


RSA = generate_private_key(public_exponent=65537, key_size=2048)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a key",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        SIGNER.pem(),
        RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    ],
    ids=["empty", "text", "damaged", "private", "rsa"],
)
def test_a_file_without_public_ed25519_keys_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(KeyUnusable):
        TrustedKeys.load(written(tmp_path / "keys.pem", content))


@pytest.mark.parametrize(
    "content",
    [
        b"not a key",
        SIGNER.trusted.pem(),
        RSA.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        RSA.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")),
    ],
    ids=["text", "public", "rsa", "locked"],
)
def test_a_file_without_a_private_ed25519_key_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(KeyUnusable):
        Signer.load(written(tmp_path / "key.pem", content))


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    for load_key in (Signer.load, TrustedKeys.load):
        with pytest.raises(KeyUnusable, match=r"absent\.pem"):
            load_key(tmp_path / "absent.pem")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_agrees(tmp_path: Path) -> None:
    folder = published(tmp_path)
    public = written(tmp_path / "trusted.pem", SIGNER.trusted.pem())
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", "release.json", "-sigfile", SIGNATURE]
    assert subprocess.run(command, cwd=folder, check=False, capture_output=True).returncode == 0
    edited(folder)
    assert subprocess.run(command, cwd=folder, check=False, capture_output=True).returncode != 0


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
