"""What somebody who watches a run is told."""

from pathlib import Path

import pytest

from shared.errors import RunNotFound
from tests.tiny_runs import learn, tiny_plan
from training.news import Place, since
from training.record import RECORD, Record, Round
from training.runs import Epoch, Run, Runs, RunStatus


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs", models=tmp_path / "models")


def told(runs: Runs, run: Run, place: Place) -> tuple[list[str], Place]:
    """What has happened, in short, and the place after it."""
    heard = []
    for each in since(runs, run.id, place):
        place = each.place
        heard.append(f"{each.what.round}.{each.what.epoch}" if isinstance(each.what, Epoch) else str(each.what.state))
    return heard, place


def test_a_run_from_its_acceptance_to_its_end(runs: Runs) -> None:
    run = runs.accept(tiny_plan(epochs=4, rounds=1))
    heard, place = told(runs, run, Place())
    assert heard == ["queued"]
    assert told(runs, run, place) == ([], place)
    runs.begin(run.id)
    learn(runs, run, number=0, epochs=2)
    heard, place = told(runs, run, place)
    assert heard == ["0.1", "0.2", "running"]
    record = Record(name="tiny", rounds=(Round(number=0, measured={}, became_champion=True, why="First.", minutes=0),), champion=0)
    (runs.folder(run.id) / RECORD).write_text(record.model_dump_json())
    learn(runs, run, number=1, epochs=1)
    heard, place = told(runs, run, place)
    assert heard == ["1.1", "running"], "a round that has ended changes the run, too"
    runs.succeed(run.id)
    learn(runs, run, number=1, epochs=2)
    heard, place = told(runs, run, place)
    assert heard == ["1.2", "succeeded"], "the end is told last"


def test_a_newcomer_hears_how_it_is_and_then_how_it_came_to_that(runs: Runs) -> None:
    run = runs.accept(tiny_plan(epochs=4))
    runs.begin(run.id)
    learn(runs, run, number=0, epochs=3)
    heard, _ = told(runs, run, Place())
    assert heard == ["running", "0.1", "0.2", "0.3"]
    assert isinstance(next(iter(since(runs, run.id, Place()))).what, RunStatus)


def test_a_place_survives_being_written_down(runs: Runs) -> None:
    run = runs.accept(tiny_plan())
    learn(runs, run, number=0, epochs=3)
    for each in since(runs, run.id, Place()):
        assert Place.parse(str(each.place)) == each.place
    for nonsense in ("", "1", "1.2.3", "a.b.c.d", "1.2.3.4.5", "1.2.3." + "9" * 5000):
        assert Place.parse(nonsense) == Place()


def test_nobody_watches_what_is_not_there(runs: Runs) -> None:
    with pytest.raises(RunNotFound):
        list(since(runs, "tr_" + "0" * 32, Place()))
