from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from shared.releases import Release, file_sha256, read
from training.datasets import Faces, luma
from training.evaluate import evaluate
from training.fit import Network, Recipe
from training.noise import Noise
from training.train import described_commit, read_luminance, train_release

RECIPE = Recipe(width=0.125, epochs=2, batch=28, average_decay=0.9, attention_steps=5)


@pytest.fixture
def released(painted: Faces, tmp_path: Path) -> tuple[Release, Path]:
    folder = tmp_path / "000003"
    measured = replace(painted, name="measured")
    release = train_release(
        [painted, painted], [measured], recipe=RECIPE, noise=Noise(), run=tmp_path / "run", version=3, notes="n", folder=folder
    )
    return release, folder


def shipped_network(folder: Path) -> Network:
    network = Network(width=RECIPE.width)
    tensors = load_file(folder / "weights.safetensors")
    network.load_state_dict({name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()})
    return network.eval()


def test_the_card_is_about_the_numbers_that_are_shipped(released: tuple[Release, Path], painted: Faces) -> None:
    release, folder = released
    assert read(folder / "release.json") == release
    assert release.files == {"weights.safetensors": file_sha256(folder / "weights.safetensors")}
    network = shipped_network(folder)
    assert release.metrics == {"measured": evaluate(network.encoder, network.clip, painted).figures()}


def test_the_card_says_how_it_came_about(released: tuple[Release, Path]) -> None:
    release, _ = released
    assert release.training["epochs"] == 2
    assert release.training["noise_brightness"] == Noise().brightness
    assert isinstance(release.training["minutes"], float)
    assert [(data.name, data.use, data.samples) for data in release.data] == [("painted", "train", 140), ("measured", "validation", 140)]
    assert release.commit


def test_a_shipped_network_sees_the_same_in_colour_and_in_grey(released: tuple[Release, Path]) -> None:
    network = shipped_network(released[1])
    coloured = torch.randint(0, 256, (3, 9, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(network(coloured), network(luma(coloured)), atol=0.02, rtol=0.02)


def test_reading_luminance_changes_nothing_on_grey_pictures(painted: Faces) -> None:
    torch.manual_seed(0)
    network = Network(width=0.125).eval()
    with torch.inference_mode():
        before = network(painted.faces[:4])
        read_luminance(network.encoder)
        torch.testing.assert_close(network(painted.faces[:4]), before, atol=1e-4, rtol=1e-4)


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert described_commit() != ""
    monkeypatch.setenv("PATH", "")
    assert described_commit() == "unknown"
