from pathlib import Path

import pytest
import torch

from shared.errors import DataUnusable
from shared.expressions import LABELS
from training.attention import fit_frame_attention, some_frames
from training.datasets import Clips
from training.fit import fit
from training.network import Network
from training.plan import Design, NoiseStrengths, Recipe, Stretch

NEUTRAL, HAPPY = LABELS.index("neutral"), LABELS.index("happy")


def test_frame_attention_prefers_frames_that_show_something(painted: Clips, recipe: Recipe, noise: NoiseStrengths, tmp_path: Path) -> None:
    longer = recipe.model_copy(update={"stretches": (Stretch(epochs=8, size=32),)})
    network = fit([painted], recipe=longer, noise=noise, seed=1, validate=[], folder=tmp_path).network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fit_frame_attention(network, painted, steps=400, seed=1)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(before[name], value)}
    assert changed == {"clip.frame.score.0.weight", "clip.frame.score.2.weight"}, "everything else is frozen"
    with torch.inference_mode():
        one_grin = torch.cat([painted.frames_of(NEUTRAL).repeat(5, 1, 1, 1), painted.frames_of(HAPPY)])
        _, weights = network.clip(network.encoder(one_grin)[0].unsqueeze(0), torch.ones(1, 6))
    assert weights[0, 5] > weights[0, :5].max()


def test_every_clip_shows_its_expression_at_least_once() -> None:
    chosen = some_frames(torch.Generator().manual_seed(0))
    assert chosen.any(dim=1).all()
    assert 0.4 < chosen.float().mean() < 0.8


def test_without_neutral_faces_there_is_nothing_to_stand_out_from(painted: Clips) -> None:
    network = Network(Design(width=0.125))
    others = painted.part([row for row, label in enumerate(painted.labels.tolist()) if label != NEUTRAL])
    with pytest.raises(DataUnusable, match="neutral"):
        fit_frame_attention(network, others, steps=1, seed=1)
