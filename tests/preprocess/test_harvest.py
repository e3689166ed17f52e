"""Face pictures in a parquet file, a store out that training reads; and the command that asks for it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from skimage import data

from services.preprocess.faces.landmarks import FacePictures
from services.preprocess.faces.regions import face_tensor
from services.preprocess.harvest.__main__ import main
from services.preprocess.harvest.adapters import ADAPTERS, Choices, harvest
from shared.crops import SAMPLES, STORE, Store, read_samples
from shared.errors import DataUnusable, LabelUnknown, PictureUnreadable
from shared.expressions import LABELS
from training.datasets import read_clips

PORTRAIT = data.astronaut()[40:190, 150:300]
SIZE = 48


@pytest.fixture
def table(encoded) -> dict[str, list]:
    """A labelled face, a face of nobody in particular, and a labelled picture in which there is none."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    return {
        "image": [encoded(PORTRAIT), encoded(PORTRAIT), encoded(noise)],
        "label": ["happy", None, "sad"],
        "subject": ["Eileen Collins", "Eileen Collins", ""],
    }


@pytest.fixture
def store(table, tmp_path, harvested) -> Path:
    return harvested("parquet", written(table, tmp_path), size=SIZE)


def written(table: dict[str, list], folder: Path) -> Path:
    path = folder / "faces.parquet"
    parquet.write_table(pa.table(table), path)
    return path


def test_training_reads_what_serving_would_cut(store: Path) -> None:
    (landmarks,) = FacePictures().landmarks([PORTRAIT])
    assert landmarks is not None
    assert np.array_equal(np.load(store / "frames.npy")[0], face_tensor(PORTRAIT, landmarks, size=SIZE))
    clips = read_clips(store)
    assert clips.labelled().labels.tolist() == [LABELS.index("happy"), LABELS.index("sad")]
    assert (clips.name, clips.licence) == ("name", "licence")


def test_every_sample_says_where_it_is_from(store: Path) -> None:
    first, second, third = read_samples(store / SAMPLES)
    assert (first.source, first.subject, first.aligned) == ("faces.parquet#0", "Eileen Collins", True)
    assert second.label is None
    assert (third.subject, third.aligned) == ("faces.parquet#2", False), "nobody known is a subject of its own"
    assert [(sample.first, sample.count, sample.consent) for sample in (first, second, third)] == [(0, 1, True), (1, 1, True), (2, 1, True)]


def test_a_picture_that_is_damaged_is_counted_and_the_rows_keep_their_numbers(table, tmp_path, harvested) -> None:
    table["image"][1] = table["image"][1][:200]
    store = harvested("parquet", written(table, tmp_path), size=SIZE, most_unreadable=0.5)
    assert [sample.source for sample in read_samples(store / SAMPLES)] == ["faces.parquet#0", "faces.parquet#2"]
    assert Store.model_validate_json((store / STORE).read_bytes()).dropped == {"unreadable": 1}


def test_too_many_damaged_pictures_are_a_damaged_data_set(table, tmp_path, harvested) -> None:
    table["image"][1] = b"\x89PNG\r\n\x1a\n"
    with pytest.raises(PictureUnreadable, match="1 of 3 are unreadable; the limit is 5%"):
        harvested("parquet", written(table, tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"faces.parquet"}, "and nothing of it is left"


def test_a_label_that_is_not_ours_is_named(table, tmp_path, harvested) -> None:
    table["label"][2] = "contempt"
    with pytest.raises(LabelUnknown, match=r"'contempt' at faces\.parquet#2"):
        harvested("parquet", written(table, tmp_path))


@pytest.mark.parametrize("content", [None, b"", b"PAR1 and something else PAR1"], ids=["missing", "empty", "foreign"])
def test_what_is_no_parquet_file_is_said_to_be_none(content: bytes | None, tmp_path, harvested) -> None:
    path = tmp_path / "faces.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataUnusable, match=r"faces\.parquet"):
        harvested("parquet", path)


def test_a_file_without_subjects_is_refused(table, tmp_path, harvested) -> None:
    del table["subject"]
    with pytest.raises(DataUnusable, match="no column subject"):
        harvested("parquet", written(table, tmp_path))


def test_a_file_without_rows_is_refused(tmp_path, harvested) -> None:
    nothing = {name: pa.array([], pa.string()) for name in ("image", "label", "subject")}
    with pytest.raises(DataUnusable, match="nothing to harvest"):
        harvested("parquet", written(nothing, tmp_path))


def test_what_may_not_be_learnt_from_says_so(table, tmp_path, harvested) -> None:
    store = harvested("parquet", written(table, tmp_path), no_consent=True)
    assert [sample.consent for sample in read_samples(store / SAMPLES)] == [False] * 3


def test_every_adapter_knows_choices_that_exist() -> None:
    for adapter in ADAPTERS.values():
        assert set(adapter.choices) < set(Choices.model_fields)
        assert adapter.clips.__doc__


def test_the_command(table, tmp_path, capsys) -> None:
    source, out = written(table, tmp_path), tmp_path / "crops"
    asked = ["parquet", str(source), "--name", "n", "--licence", "l", "--size", "32", "--no-consent", "--out", str(out)]
    command = [sys.executable, "-m", "services.preprocess.harvest", *asked]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"3 samples, 3 frames of 32 px in {out}; left out: nothing\n"), done.stderr
    same = harvest("parquet", source, name="n", licence="l", out=tmp_path / "same", choices=Choices(size=32, no_consent=True))
    assert Store.model_validate_json((out / STORE).read_bytes()) == same
    assert main(asked) == 1
    assert capsys.readouterr().err.startswith("store-exists: ")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["videos", "--sample-fps", "0"], "--sample-fps: Input should be greater than 0"),
        (["afew", "--size", "65"], "--size: Input should be a multiple of 8"),
        (["uploads", "--no-consent"], "unrecognized arguments: --no-consent"),
        (["parquet", "--usage", "Training"], "unrecognized arguments: --usage"),
        (["avi"], "invalid choice: 'avi'"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(words, complaint, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit):
        main([words[0], str(tmp_path), "--name", "n", "--licence", "l", "--out", str(tmp_path / "crops"), *words[1:]])
    assert complaint in capsys.readouterr().err
