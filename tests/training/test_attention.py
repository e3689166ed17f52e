from pathlib import Path

import pytest
import torch

from shared.expressions import LABELS
from training.attention import fit_frame_attention, some_frames
from training.datasets import DataUnusable, Faces
from training.fit import Network, Recipe, fit
from training.noise import Noise

NEUTRAL, HAPPY = LABELS.index("neutral"), LABELS.index("happy")


def test_frame_attention_prefers_frames_that_show_something(painted: Faces, tmp_path: Path) -> None:
    recipe = Recipe(width=0.125, epochs=8, batch=28, average_decay=0.9)
    noise = Noise(translation=0.0, rotation_degrees=0.0, scale=0.0, draws_per_batch=4)
    network = fit([painted], recipe=recipe, noise=noise, validate=[], folder=tmp_path).network.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fit_frame_attention(network.encoder, network.clip, painted, steps=400, seed=1)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(before[name], value)}
    assert changed == {"clip.frame.score.0.weight", "clip.frame.score.2.weight"}, "everything else is frozen"
    with torch.inference_mode():
        one_grin = torch.cat([painted.faces[NEUTRAL : NEUTRAL + 1].repeat(5, 1, 1, 1), painted.faces[HAPPY : HAPPY + 1]])
        _, weights = network.clip(network.encoder(one_grin)[0].unsqueeze(0), torch.ones(1, 6))
    assert weights[0, 5] > weights[0, :5].max()


def test_every_clip_shows_its_expression_at_least_once() -> None:
    chosen = some_frames(torch.Generator().manual_seed(0))
    assert chosen.any(dim=1).all()
    assert 0.4 < chosen.float().mean() < 0.8


def test_without_neutral_faces_there_is_nothing_to_stand_out_from(painted: Faces) -> None:
    network = Network(width=0.125)
    others = painted.part([row for row, label in enumerate(painted.labels.tolist()) if label != NEUTRAL])
    with pytest.raises(DataUnusable, match="neutral"):
        fit_frame_attention(network.encoder, network.clip, others, steps=1, seed=1)
