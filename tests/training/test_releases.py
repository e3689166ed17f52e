"""The releases that ship: whole, honest about their size, and of sound mind."""

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

from services.preprocess.faces.landmarks import FacePictures
from services.preprocess.faces.regions import face_tensor
from shared.expressions import LABELS
from shared.releases import file_sha256, read
from training.datasets import luma
from training.export import read_release_network

RELEASES = sorted((Path(__file__).parents[2] / "training" / "releases").glob("[0-9]*"))
MOST_BYTES = 20 * 10**6
PORTRAIT = data.astronaut()[40:190, 150:300]


@pytest.fixture(params=RELEASES, ids=lambda path: path.name)
def folder(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_there_is_a_release_and_git_can_carry_it() -> None:
    assert RELEASES
    assert sum(path.stat().st_size for folder in RELEASES for path in folder.iterdir()) < MOST_BYTES


def test_the_card_names_these_weights_and_their_figures(folder: Path) -> None:
    release = read(folder / "release.json")
    assert release.version == int(folder.name)
    assert release.files == {path.name: file_sha256(path) for path in folder.iterdir() if path.name != "release.json"}
    assert release.notes
    for figures in release.metrics.values():
        assert {"accuracy", "mean_recall", "macro_f1", "calibration_error"} <= set(figures)
        assert 0.5 < figures["accuracy"] < 1


def test_a_smile_is_a_smile_in_colour_and_in_grey(folder: Path) -> None:
    release = read(folder / "release.json")
    network = read_release_network(release, folder / "weights.safetensors")
    (landmarks,) = FacePictures().landmarks([PORTRAIT])
    assert landmarks is not None
    coloured = face_tensor(PORTRAIT, landmarks, size=release.size)[None]
    with torch.inference_mode():
        one = torch.ones(1, dtype=torch.int64)
        scores = torch.softmax(
            torch.cat([network(faces, one) for faces in (torch.from_numpy(coloured), luma(coloured, np.array([0])))]), dim=1
        )
    assert [LABELS[index] for index in scores.argmax(dim=1).tolist()] == ["happy", "happy"]
    torch.testing.assert_close(scores[0], scores[1], atol=0.02, rtol=0)
