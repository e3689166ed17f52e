"""The folder of crop stores, and what a plan's names may lead to."""

from pathlib import Path

import pytest

from shared.crops import SAMPLES, STORE, read_samples
from shared.errors import DataUnusable
from tests.painted import write_painted_store
from tests.samples import write_samples
from tests.tiny_runs import tiny_plan
from training.plan import Source
from training.stores import Stores, is_inside, placed


def test_stores_are_found_wherever_they_lie(tmp_path: Path) -> None:
    write_painted_store(tmp_path / "faces", 14)
    write_painted_store(tmp_path / "ck" / "fold-1", 7, labelled=False)
    write_painted_store(tmp_path / ".half-written", 7)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / STORE).write_text("{}")
    found = Stores(tmp_path).all()
    assert [(each.store, each.samples, each.unlabelled) for each in found] == [("ck/fold-1", 7, 7), ("faces", 14, 0)]
    assert found[1].labels == {"angry": 2, "disgust": 2, "fear": 2, "happy": 2, "neutral": 2, "sad": 2, "surprise": 2}


def test_what_may_not_be_trained_on_is_counted(tmp_path: Path) -> None:
    folder = write_painted_store(tmp_path / "faces", 14)
    samples = read_samples(folder / SAMPLES)
    write_samples(folder / SAMPLES, [sample.model_copy(update={"consent": number > 3}) for number, sample in enumerate(samples)])
    assert Stores(tmp_path).all()[0].without_consent == 4


def test_no_folder_holds_no_stores(tmp_path: Path) -> None:
    assert Stores(tmp_path / "nowhere").all() == []


def test_a_name_stays_inside(tmp_path: Path) -> None:
    write_painted_store(tmp_path / "crops" / "faces", 7)
    (tmp_path / "crops" / "link").symlink_to(tmp_path)
    inside = {
        name: is_inside(tmp_path / "crops", Path(name)) for name in ("faces", "a/b", "", "..", "../crops/faces", "link", "link/x", "/")
    }
    assert inside == {
        "faces": True,
        "a/b": True,
        "": False,
        "..": False,
        "../crops/faces": False,
        "link": False,
        "link/x": False,
        "/": False,
    }


def test_names_become_folders_and_absolute_ones_stay(tmp_path: Path) -> None:
    own = write_painted_store(tmp_path / "elsewhere" / "own", 7)
    for name in ("painted", "strangers", "judge"):
        write_painted_store(tmp_path / "crops" / name, 7)
    (tmp_path / "models" / "mien_000001").mkdir(parents=True)
    plan = tiny_plan(rounds=1, teacher=Path("mien_000001"), labelled=(Source(store=Path("painted"), repeat=3), Source(store=own)))
    there = placed(plan, crops=tmp_path / "crops", models=tmp_path / "models", version=7)
    assert [source.store for source in there.labelled] == [tmp_path / "crops" / "painted", own]
    assert (there.labelled[0].repeat, there.version, there.teacher) == (3, 7, tmp_path / "models" / "mien_000001")
    assert there.frozen == (tmp_path / "crops" / "judge",)
    with pytest.raises(DataUnusable, match="no painted in elsewhere"):
        placed(plan, crops=tmp_path / "elsewhere", models=tmp_path / "models", version=7)
