import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from shared.releases import Release, read
from training.datasets import Faces
from training.fit import Network, Recipe, TrainingDiverged, fit, fit_frame_attention, is_grey, read_luminance, step, write_release
from training.noise import Noise

RECIPE = Recipe(width=0.125, epochs=4, batch=28, learning_rate=3e-3, average_decay=0.9, attention_epochs=2)
NOISE = Noise(translation=0.0, rotation_degrees=0.0, scale=0.0, draws_per_batch=4)


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "history.jsonl").read_text().splitlines()]


def test_learns_what_can_be_seen(painted: Faces, tmp_path: Path) -> None:
    fit([painted], recipe=RECIPE, noise=NOISE, validate=[painted], run=tmp_path)
    first, *_, last = losses(tmp_path)
    assert last < first * 0.8


def test_a_killed_run_resumes_and_ends_the_same(painted: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit([painted], recipe=RECIPE, noise=NOISE, validate=[], run=tmp_path / "whole")

    class Killed(BaseException):
        pass

    calls = 0

    def dies_in_the_third_epoch(faces: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > 2 * 5 + 1:
            raise Killed
        return NOISE(faces)

    with pytest.raises(Killed):
        fit([painted], recipe=RECIPE, noise=dies_in_the_third_epoch, validate=[], run=tmp_path / "killed")  # type: ignore[arg-type]
    assert len(losses(tmp_path / "killed")) == 2
    resumed = fit([painted], recipe=RECIPE, noise=NOISE, validate=[], run=tmp_path / "killed")
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_a_loss_that_is_no_number_stops_the_run(painted: Faces) -> None:
    network = Network(width=0.125)
    torch.nn.init.constant_(network.clip.output.weight, float("nan"))
    optimiser = torch.optim.AdamW(network.parameters())
    with pytest.raises(TrainingDiverged):
        step(network, painted.faces[:4], painted.labels[:4], optimiser=optimiser, smoothing=0.1)


def test_reading_luminance_changes_nothing_on_grey_pictures(painted: Faces) -> None:
    torch.manual_seed(0)
    network = Network(width=0.125).eval()
    assert is_grey(painted)
    with torch.inference_mode():
        before = network(painted.faces[:4])
        read_luminance(network.encoder)
        torch.testing.assert_close(network(painted.faces[:4]), before, atol=1e-4, rtol=1e-4)

        coloured = torch.randint(0, 256, (1, 3, 3, 32, 32), dtype=torch.uint8)
        luma = (coloured.float() * torch.tensor((0.299, 0.587, 0.114)).reshape(1, 1, 3, 1, 1)).sum(dim=2, keepdim=True)
        grey = luma.expand(1, 3, 3, 32, 32).flatten(1, 2)
        torch.testing.assert_close(network.encoder(coloured.flatten(1, 2))[0], network.encoder(grey)[0], atol=1e-4, rtol=1e-4)


def test_frame_attention_prefers_frames_that_show_something(painted: Faces, tmp_path: Path) -> None:
    recipe = Recipe(width=0.125, epochs=8, batch=28, average_decay=0.9, attention_epochs=40)
    network = fit([painted], recipe=recipe, noise=NOISE, validate=[], run=tmp_path).eval()
    outputs = {name: value.clone() for name, value in network.state_dict().items() if "frame" not in name}
    fit_frame_attention(network, painted, recipe=recipe)
    for name, value in outputs.items():
        assert torch.equal(network.state_dict()[name], value), f"{name} was not frozen"
    with torch.inference_mode():
        features = network.encoder(torch.cat([painted.faces[4:5].repeat(5, 1, 1, 1), painted.faces[3:4]]))[0]
        _, weights = network.clip(features.unsqueeze(0), torch.ones(1, 6))
    assert weights[0, 5] > weights[0, :5].max(), "one happy frame among five neutral ones"


def test_a_release_folder_holds_what_was_trained(painted: Faces, tmp_path: Path) -> None:

    network = Network(width=0.125)
    release = Release(
        version=3, size=32, width=0.125, feature_size=network.encoder.feature_size, training={}, metrics={}, data=(), commit="c", notes=""
    )
    write_release(network, release, tmp_path / "000003")
    again = read(tmp_path / "000003" / "release.json")
    assert again.version == 3
    assert set(again.files) == {"weights.safetensors"}
    tensors = load_file(tmp_path / "000003" / "weights.safetensors")
    assert set(tensors) == set(network.state_dict())
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
