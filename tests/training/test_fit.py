import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from training.checkpoint import RunMismatch
from training.datasets import Faces
from training.fit import Network, Recipe, TrainingDiverged, fit, step
from training.noise import Noise

RECIPE = Recipe(width=0.125, epochs=4, batch=28, learning_rate=3e-3, average_decay=0.9, attention_steps=20)
NOISE = Noise(translation=0.0, rotation_degrees=0.0, scale=0.0, draws_per_batch=4)


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "history.jsonl").read_text().splitlines()]


def test_learns_what_can_be_seen(painted: Faces, tmp_path: Path) -> None:
    fit([painted], recipe=RECIPE, noise=NOISE, validate=[painted], folder=tmp_path)
    first, *_, last = losses(tmp_path)
    assert last < first * 0.8


def test_another_recipe_or_other_data_does_not_go_on_with_this_run(painted: Faces, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1)
    fit([painted], recipe=recipe, noise=NOISE, validate=[], folder=tmp_path)
    for changed, faces in ((replace(recipe, learning_rate=1e-5), painted), (recipe, replace(painted, sha256="1" * 64))):
        with pytest.raises(RunMismatch):
            fit([faces], recipe=changed, noise=NOISE, validate=[], folder=tmp_path)


def test_a_killed_run_resumes_and_ends_the_same(painted: Faces, tmp_path: Path) -> None:
    whole = fit([painted], recipe=RECIPE, noise=NOISE, validate=[], folder=tmp_path / "whole").network

    class Killed(BaseException):
        pass

    class DiesInTheThirdEpoch(Noise):
        calls = 0

        def __call__(self, faces: torch.Tensor) -> torch.Tensor:
            type(self).calls += 1
            if self.calls > 2 * 5 + 1:
                raise Killed
            return super().__call__(faces)

    with pytest.raises(Killed):
        fit([painted], recipe=RECIPE, noise=DiesInTheThirdEpoch(**asdict(NOISE)), validate=[], folder=tmp_path / "killed")
    assert len(losses(tmp_path / "killed")) == 2
    resumed = fit([painted], recipe=RECIPE, noise=NOISE, validate=[], folder=tmp_path / "killed").network
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_a_loss_that_is_no_number_stops_the_run(painted: Faces) -> None:
    network = Network(width=0.125)
    torch.nn.init.constant_(network.clip.output.weight, float("nan"))
    optimiser = torch.optim.AdamW(network.parameters())
    with pytest.raises(TrainingDiverged):
        step(network, painted.faces[:4], painted.labels[:4], optimiser=optimiser, smoothing=0.1)
