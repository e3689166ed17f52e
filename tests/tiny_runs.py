"""Training runs that take seconds: painted faces of 32 pixels, a network of an eighth of the paper's width."""

import json
import os
import sys
from pathlib import Path

from tests.painted import write_painted_store
from training.plan import Design, NoiseStrengths, Plan, PseudoLabelling, Recipe, Source, Stretch
from training.runs import HISTORY, Run, Runs


def write_crops(folder: Path) -> Path:
    """The stores that `tiny_plan` names."""
    write_painted_store(folder / "painted", 56)
    write_painted_store(folder / "judge", 28, seed=1)
    write_painted_store(folder / "strangers", 28, seed=2, labelled=False)
    return folder


def tiny_plan(*, epochs: int = 1, rounds: int = 0, **changes: object) -> Plan:
    recipe = Recipe(
        design=Design(width=0.125),
        stretches=(Stretch(epochs=epochs, size=32),),
        batch=28,
        average_decay=0.9,
        attention_steps=1,
        bfloat16=False,
    )
    plan = Plan(
        name="tiny",
        labelled=(Source(store=Path("painted")),),
        unlabelled=(Source(store=Path("strangers")),) if rounds else (),
        frozen=(Path("judge"),),
        teacher_recipe=recipe,
        student_recipes=(recipe,),
        noise=NoiseStrengths(groups_per_batch=4),
        teacher_noise=NoiseStrengths(groups_per_batch=4),
        pseudo_labelling=PseudoLabelling(threshold=0.0),
        rounds=rounds,
    )
    return plan.model_copy(update=changes)


def environment(home: Path, **more: str) -> dict[str, str]:
    """Of a process of training, with every folder under `home`, and no server but those that are given."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "MIEN_RUNS": str(home / "runs"),
        "MIEN_CROPS": str(home / "crops"),
        "MIEN_MODELS": str(home / "models"),
        **more,
    }


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "training", *arguments]


def learn(runs: Runs, run: Run, *, number: int, epochs: int) -> None:
    """Leave what training leaves after so many epochs."""
    folder = runs.folder(run.id) / f"round-{number}"
    folder.mkdir(exist_ok=True)
    (folder / HISTORY).write_text("".join(json.dumps({"epoch": epoch, "loss": 1 / (epoch + 1)}) + "\n" for epoch in range(epochs)))
