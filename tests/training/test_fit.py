"""The loop: it learns, it stops before harm, and neither a kill nor the number of processes changes its numbers."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shared.errors import DataUnusable, InsufficientStorage, RunMismatch, TrainingDiverged
from tests.painted import painted_clips
from tests.training.conftest import TINY, UPRIGHT
from training import fit as fitting
from training.datasets import Clips
from training.fit import draw_weights, fit, smoothed
from training.network import Network
from training.noise import Noise
from training.plan import NoiseStrengths, Recipe, Stretch
from training.processes import Processes

REPOSITORY = Path(__file__).parents[2]


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "history.jsonl").read_text().splitlines()]


def test_learns_what_can_be_seen(painted: Clips, recipe: Recipe, noise: NoiseStrengths, tmp_path: Path) -> None:
    fitted = fit([painted], recipe=recipe, noise=noise, seed=1, validate=[painted], folder=tmp_path)
    first, *_, last = losses(tmp_path)
    assert last < first * 0.8
    assert {"painted_accuracy", "painted_macro_f1", "seconds"} < set(fitted.history[-1])


def test_learns_from_clips_of_several_frames_and_so_teaches_frame_attention(recipe: Recipe, noise: NoiseStrengths, tmp_path: Path) -> None:
    torch.manual_seed(1)
    before = Network(recipe.design).clip.frame.state_dict()
    fitted = fit([painted_clips(70, frames=3)], recipe=recipe, noise=noise, seed=1, validate=[], folder=tmp_path)
    assert losses(tmp_path)[-1] < losses(tmp_path)[0]
    after = fitted.network.clip.frame.state_dict()
    assert not any(torch.equal(before[name], after[name]) for name in before)


def test_small_crops_come_first(painted: Clips, recipe: Recipe, noise: NoiseStrengths, tmp_path: Path) -> None:
    growing = recipe.model_copy(update={"stretches": (Stretch(epochs=1, size=32), Stretch(epochs=2, size=40))})
    larger = Clips(**{**vars(painted), "frames": torch.nn.functional.interpolate(painted.frames, size=40)})
    fitted = fit([larger], recipe=growing, noise=noise, seed=1, validate=[larger], folder=tmp_path)
    assert [line["size"] for line in fitted.history] == [32, 40, 40]


def test_another_recipe_noise_seed_or_other_data_does_not_go_on_with_this_run(
    painted: Clips, recipe: Recipe, noise: NoiseStrengths, tmp_path: Path
) -> None:
    short = recipe.model_copy(update={"stretches": (Stretch(epochs=1, size=32),)})
    fit([painted], recipe=short, noise=noise, seed=1, validate=[], folder=tmp_path)
    slower, louder = short.model_copy(update={"learning_rate": 1e-5}), noise.model_copy(update={"contrast": 0.9})
    relabelled = painted.with_targets(painted.targets.roll(1, dims=1))
    for changed in (
        {"recipe": slower},
        {"noise": louder},
        {"seed": 2},
        {"train": [painted_clips(140, seed=1)]},
        {"train": [relabelled]},
        {"start": Network(recipe.design)},
    ):
        arguments = {"train": [painted], "recipe": short, "noise": noise, "seed": 1, **changed}
        with pytest.raises(RunMismatch):
            fit(validate=[], folder=tmp_path, **arguments)  # type: ignore[arg-type]


def test_a_killed_run_resumes_and_ends_the_same(
    painted: Clips, recipe: Recipe, noise: NoiseStrengths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit([painted], recipe=recipe, noise=noise, seed=1, validate=[], folder=tmp_path / "whole").network

    class Killed(BaseException):
        pass

    class DiesInTheThirdEpoch(Noise):
        def faces(self, faces: torch.Tensor, *, step: int, group: int) -> torch.Tensor:
            if step == 2 * 5 + 1:
                raise Killed
            return super().faces(faces, step=step, group=group)

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "Noise", DiesInTheThirdEpoch)
        with pytest.raises(Killed):
            fit([painted], recipe=recipe, noise=noise, seed=1, validate=[], folder=tmp_path / "killed")
    assert len(losses(tmp_path / "killed")) == 2
    resumed = fit([painted], recipe=recipe, noise=noise, seed=1, validate=[], folder=tmp_path / "killed").network
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


TWO_PROCESSES = """
import sys
from pathlib import Path
from tests.training.test_fit import fitted_shortly
from training.processes import Processes
with Processes.joined() as processes:
    fitted_shortly(Path(sys.argv[1]), processes)
"""


def fitted_shortly(folder: Path, processes: Processes) -> None:
    """In double precision: in single, Adam makes another order of summation ten times larger with every step."""
    short = TINY.model_copy(update={"stretches": (Stretch(epochs=2, size=32),)})
    clips = [painted_clips(71), painted_clips(21, frames=3, seed=1)]
    torch.set_default_dtype(torch.float64)
    try:
        fit(clips, recipe=short, noise=UPRIGHT, seed=1, validate=[clips[0]], folder=folder, processes=processes)
    finally:
        torch.set_default_dtype(torch.float32)


def test_two_processes_give_the_loss_of_one(tmp_path: Path) -> None:
    fitted_shortly(tmp_path / "one", Processes())
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    torchrun = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, str(script), str(tmp_path / "two")]
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert one[-1] < one[0]
    assert two == pytest.approx(one, rel=1e-6)


def test_a_batch_that_processes_cannot_share_is_refused(painted: Clips, recipe: Recipe, noise: NoiseStrengths, tmp_path: Path) -> None:
    with pytest.raises(DataUnusable, match="cannot be shared"):
        fit([painted], recipe=recipe, noise=noise, seed=1, validate=[], folder=tmp_path, processes=fitting.Processes(count=3))
    with pytest.raises(DataUnusable, match="cannot be cut"):
        fit([painted.part([0, 1])], recipe=recipe, noise=noise, seed=1, validate=[], folder=tmp_path)


def test_unlabelled_clips_teach_nothing(painted: Clips, recipe: Recipe, noise: NoiseStrengths, tmp_path: Path) -> None:
    with pytest.raises(DataUnusable, match="without a label"):
        fit([painted, painted_clips(7, labelled=False)], recipe=recipe, noise=noise, seed=1, validate=[], folder=tmp_path)


def test_a_loss_that_is_no_number_stops_the_run(painted: Clips, recipe: Recipe, noise: NoiseStrengths, tmp_path: Path) -> None:
    start = Network(recipe.design)
    torch.nn.init.constant_(start.clip.output.weight, float("nan"))
    with pytest.raises(TrainingDiverged, match="step 0"):
        fit([painted], recipe=recipe, noise=noise, seed=1, validate=[], folder=tmp_path, start=start)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_full_disk_stops_the_run_and_leaves_the_last_checkpoint(
    painted: Clips, recipe: Recipe, noise: NoiseStrengths, small_disk: Path
) -> None:
    with pytest.raises(InsufficientStorage):
        fit([painted], recipe=recipe, noise=noise, seed=1, validate=[], folder=small_disk / "run")
    assert not list((small_disk / "run").glob("*.pt"))


def test_people_are_not_quite_sure_but_teachers_are_taken_at_their_word() -> None:
    clips = painted_clips(2)
    soft = torch.full((1, 7), 1 / 7)
    mixed, taught = smoothed([clips.with_targets(torch.cat([clips.targets[:1], soft])), replace(clips, pseudo_labeller="round-0")], 0.14)
    assert mixed.targets[0, 0] == pytest.approx(0.88)
    torch.testing.assert_close(mixed.targets[1:], soft)
    assert torch.equal(taught.targets, clips.targets), "also where a teacher is quite sure"


def test_balance_draws_small_classes_more_often_and_keeps_the_shares_of_parts() -> None:
    clips = painted_clips(14).part([0, 0, 0, 0, 1])
    even, as_it_comes = (draw_weights([clips, painted_clips(5)], balance) for balance in (1.0, 0.0))
    assert as_it_comes.tolist() == [1.0] * 10
    assert even[:4].sum() == pytest.approx(float(even[4]))
    assert even[:5].sum() == pytest.approx(5)
    assert draw_weights([replace(clips, pseudo_labeller="round-0")], 1.0).tolist() == [1.0] * 5
