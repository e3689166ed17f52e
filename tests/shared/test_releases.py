from pathlib import Path

import pytest

from shared import releases
from shared.errors import ModelContractMismatch, ModelDigestMismatch, ModelVersionUnavailable
from shared.releases import Release, file_sha256


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository with releases 2 and 10, and a folder that is still being written."""
    for version in (10, 2):
        folder = tmp_path / releases.folder_name(version)
        (folder / "frames").mkdir(parents=True)
        (folder / "frames" / "model.pt").write_bytes(b"graph")
        files = {"frames/model.pt": file_sha256(folder / "frames" / "model.pt")}
        release = Release(
            version=version, size=64, width=0.25, feature_size=128, training={}, metrics={}, data=(), commit="c", notes="", files=files
        )
        (folder / "release.json").write_text(release.model_dump_json())
    (tmp_path / ".mien_000011.partial").mkdir()
    return tmp_path


def test_published_are_in_order_of_version_not_of_time(models: Path) -> None:
    assert releases.published(models) == [2, 10]


def test_a_whole_release_is_loaded(models: Path) -> None:
    release = releases.load(models, 10)
    assert release.version == 10
    assert release.model("clip") == "mien_000010_clip"


def test_a_tampered_file_is_refused(models: Path) -> None:
    (models / "mien_000002" / "frames" / "model.pt").write_bytes(b"another graph")
    with pytest.raises(ModelDigestMismatch, match=r"mien_000002/frames/model\.pt"):
        releases.load(models, 2)


def test_a_missing_file_is_refused(models: Path) -> None:
    (models / "mien_000002" / "frames" / "model.pt").unlink()
    with pytest.raises(ModelDigestMismatch):
        releases.load(models, 2)


def test_a_version_that_was_never_published(models: Path) -> None:
    with pytest.raises(ModelVersionUnavailable):
        releases.load(models, 3)


@pytest.mark.parametrize("change", [{"labels": ["happy"]}, {"size": 20}, {"surprise": 1}])
def test_another_contract_is_refused(models: Path, change: dict[str, object]) -> None:
    path = models / "mien_000002" / "release.json"
    path.write_text(Release.model_construct(**{**releases.read(path).model_dump(), **change}).model_dump_json(warnings=False))
    if "surprise" in change:
        path.write_text(path.read_text().replace("{", '{"surprise": 1, ', 1))
    with pytest.raises(ModelContractMismatch):
        releases.read(path)
