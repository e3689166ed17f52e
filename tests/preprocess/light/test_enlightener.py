"""Brightening with a network: what is done to a frame by what the network says of a smaller one, and which files are taken."""

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor, nn

from services.preprocess.light.enlightener.generator import LONGEST_SIDE_PX, SHIPPED, Brightener, reduced_size
from services.preprocess.light.lowlight import Lowlight
from services.preprocess.light.luminance import mean_luma
from shared.enlighteners import GENERATOR, MANIFEST, MAX_BYTES, STRIDE, Enlightener, read
from shared.errors import ModelContractMismatch, ModelDigestMismatch, ReleaseError
from shared.jobs import Enhance
from shared.releases import file_sha256
from training.graphs import torchscript


class Doubles(nn.Module):
    """Doubles the light of the left half, and leaves the right one."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, pictures: Tensor) -> Tensor:
        left, right = (pictures.float() / 255).chunk(2, dim=3)
        return torch.cat([left * self.factor, right], dim=3).clamp(0, 1)


def write(folder: Path, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / GENERATOR).write_bytes(content)
    words = Enlightener(
        width=0.1,
        parameters=1,
        steps=1,
        minutes=0,
        hardware="none",
        features="none",
        data=(),
        metrics={},
        commit="none",
        notes="For tests.",
        sha256=file_sha256(folder / GENERATOR),
    )
    (folder / MANIFEST).write_text(words.model_dump_json())
    return folder


@pytest.fixture
def doubles(tmp_path: Path) -> Path:
    with torch.no_grad(), torchscript():
        torch.jit.trace(Doubles(), torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).half().save(str(tmp_path / "doubles.pt"))
    return write(tmp_path / "doubles", (tmp_path / "doubles.pt").read_bytes())


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return data.astronaut()


def test_a_frame_is_brightened_where_the_network_says_and_by_how_much(doubles: Path) -> None:
    frame = np.full((360, 640, 3), 40, dtype=np.uint8)
    brighter = Brightener(doubles).brighten(frame)
    assert brighter.shape == frame.shape
    assert brighter.dtype == np.uint8
    assert np.abs(brighter[:, :270].astype(int) - 80).max() <= 1
    assert np.abs(brighter[:, 370:].astype(int) - 40).max() <= 1


def test_detail_and_hue_are_those_of_the_frame_and_white_stays_white(doubles: Path) -> None:
    frame = np.full((64, 64, 3), (60, 30, 20), dtype=np.uint8)
    frame[::2, ::2] = 255
    brighter = Brightener(doubles).brighten(frame)[:, :24]
    assert (brighter[::2, ::2] == 255).all()
    red, green, blue = brighter[1, 1].tolist()
    assert red > 60
    assert red > green > blue


def test_nothing_becomes_darker(portrait: np.ndarray, doubles: Path) -> None:
    assert (Brightener(doubles).brighten(portrait) >= portrait).all()


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (48, 48), (360, 640), (1080, 1920), (1920, 1080)])
def test_the_network_sees_a_small_frame_whose_sides_it_can_halve(shape: tuple[int, int]) -> None:
    width, height = reduced_size(np.zeros((*shape, 3), dtype=np.uint8))
    assert width % STRIDE == height % STRIDE == 0
    assert 0 < width <= LONGEST_SIDE_PX
    assert 0 < height <= LONGEST_SIDE_PX


def test_another_file_than_the_one_that_is_named_is_refused(doubles: Path) -> None:
    with (doubles / GENERATOR).open("ab") as file:
        file.write(b"more")
    with pytest.raises(ModelDigestMismatch):
        Brightener(doubles)


def test_missing_files_other_words_and_what_is_no_torchscript_are_refused(tmp_path: Path, doubles: Path) -> None:
    with pytest.raises(ReleaseError, match=MANIFEST):
        Brightener(tmp_path)
    with pytest.raises(ModelContractMismatch, match="no TorchScript"):
        Brightener(write(tmp_path / "text", b"text"))
    (doubles / MANIFEST).write_text("{}")
    with pytest.raises(ModelContractMismatch):
        Brightener(doubles)


# --- what ships ------------------------------------------------------------------------------------------------------


def test_what_ships_is_small_and_names_where_it_comes_from() -> None:
    shipped = read(SHIPPED)
    assert (SHIPPED / GENERATOR).stat().st_size <= MAX_BYTES
    assert shipped.data
    assert all(source.licence for source in shipped.data)
    assert shipped.metrics["luma_brightened_1/8"] > shipped.metrics["luma_dark_1/8"]


@pytest.mark.parametrize("factor", [0.1, 0.25])
def test_what_ships_brings_light_to_a_dark_face(portrait: np.ndarray, factor: float) -> None:
    dark = (portrait * factor).astype(np.uint8)
    brighter = Lowlight(method="enlightengan").brightening(Enhance.AUTO).frame(dark)
    assert mean_luma(brighter) > 1.5 * mean_luma(dark)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 200, 3), (48, 48, 3), (1080, 1920, 3)])
@pytest.mark.parametrize("value", [0, 1, 255])
def test_any_picture_may_come(shape: tuple[int, ...], value: int) -> None:
    frame = np.full(shape, value, dtype=np.uint8)
    frame.flags.writeable = False  # as Pillow gives them
    brighter = Brightener().brighten(frame)
    assert brighter.shape == shape
    assert brighter.dtype == np.uint8
