"""Learning to see in the dark: people apart, seeded, resumable, and nothing written that does not hold."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from PIL import Image

from shared import enlighteners
from shared.enlighteners import GENERATOR, MANIFEST
from shared.errors import DataUnusable, ModelDigestMismatch, PictureUnreadable, ReleaseError, RunMismatch, TrainingDiverged
from training.enlighten.__main__ import main, train
from training.enlighten.data import BRIGHT, DARK, HELD_OUT, Batches, Faces, part_of, read_faces, read_rows
from training.enlighten.features import TrunkFeatures
from training.enlighten.fit import Line, fit
from training.enlighten.settings import Darkening, Settings
from training.network import Network
from training.plan import Design

TINY = Settings(width=0.125, discriminator_width=0.125, patch=48, local_patch=16, local_patches=1, batch=2, epochs=3, steps=2, held_out=0.3)

Write = Callable[..., Path]


class Killed(BaseException):
    """As SIGKILL would, between two epochs."""


def picture(brightness: float, seed: int) -> bytes:
    coarse = np.random.default_rng(seed).uniform(0.5, 1.0, size=(6, 6, 3)) * 255 * brightness
    buffer = io.BytesIO()
    Image.fromarray(coarse.astype(np.uint8)).resize((64, 64), Image.Resampling.BILINEAR).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a parquet file of pictures and subjects."""

    def written(images: list[object], subjects: list[str], name: str = "faces.parquet") -> Path:
        path = tmp_path / name
        parquet.write_table(pa.table({"image": images, "subject": subjects}), path)
        return path

    return written


@pytest.fixture
def files(write: Write) -> list[Path]:
    people = range(24)
    return [write([picture(0.2 if person % 6 == 0 else 0.8, person) for person in people], [f"person {person}" for person in people])]


@pytest.fixture
def faces(files: list[Path]) -> Faces:
    return read_faces(files, licence="CC0", settings=TINY)


@pytest.fixture
def features() -> TrunkFeatures:
    torch.manual_seed(5)
    return TrunkFeatures(Network(Design(width=0.125)).encoder, width=0.125)


# --- data ------------------------------------------------------------------------------------------------------------


def test_nobody_is_in_two_parts_and_every_part_is_named(faces: Faces) -> None:
    assert {source.use for source in faces.sources} == {DARK, BRIGHT, HELD_OUT}
    assert sum(source.samples for source in faces.sources) == len(faces.dark) + len(faces.bright) + len(faces.held_out)
    assert all(source.licence == "CC0" for source in faces.sources)


def test_bright_examples_are_bright_and_dark_ones_are_known_from_those_to_be_darkened(faces: Faces) -> None:
    assert float(faces.bright.float().mean(dim=(1, 2, 3)).min()) / 255 > 0.38
    darkest = faces.dark[faces.is_dark].float().mean(dim=(1, 2, 3)) / 255
    assert len(darkest) > 0
    assert float(darkest.max()) < 0.3


def test_who_is_held_out_of_a_crop_store_is_held_out_here() -> None:
    from tests.painted import painted_clips
    from training.datasets import split_by_subject

    kept, out = split_by_subject(painted_clips(200), held_out=0.15)
    assert {part_of(subject, held_out=0.15) for subject in out.subjects} == {HELD_OUT}
    assert {part_of(subject, held_out=0.15) for subject in kept.subjects} == {DARK, BRIGHT}


def test_the_same_step_draws_the_same_pictures_whoever_drew_before(faces: Faces) -> None:
    batches = Batches(faces=faces, settings=TINY)
    first = batches.drawn(7)
    batches.drawn(3)
    again = batches.drawn(7)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    dark, bright = first
    assert dark.shape == bright.shape == (TINY.batch, 3, TINY.patch, TINY.patch)
    assert dark.mean() < bright.mean()


def test_bad_files_and_pictures_are_named(write: Write, tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(DataUnusable) as refusal:
            read_faces([path], licence="", settings=TINY)
        return refusal.value.detail

    assert "is not there" in refused(tmp_path / "nowhere.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    assert "text.parquet" in refused(tmp_path / "text.parquet")
    parquet.write_table(pa.table({"image": [b""]}), tmp_path / "half.parquet")
    assert "no column subject" in refused(tmp_path / "half.parquet")
    assert "no picture" in refused(write([picture(0.8, 1)], ["somebody"], "one.parquet"))
    assert "no picture" in refused(write([], [], "none.parquet"))
    with pytest.raises(PictureUnreadable, match=r"faces.parquet#1"):
        read_faces([write([picture(0.8, 1), b"no picture"], ["a", "b"])], licence="", settings=TINY)


def test_a_picture_is_held_upright_as_in_a_harvest(write: Write) -> None:
    """With its left half white and its right half black, and a note to turn it by a quarter."""
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.repeat(np.array([[255] * 20 + [0] * 20] * 40, np.uint8)[:, :, np.newaxis], 3, axis=2)).save(buffer, "PNG", exif=exif)
    ((turned, _, _),) = read_rows(write([buffer.getvalue()], ["somebody"]))
    assert turned[:, :60].min() == 255
    assert turned[:, 68:].max() == 0


@pytest.mark.parametrize(
    "content", [None, 7, b"", picture(0.8, 1)[:200], b"%PDF-1.4"], ids=["null", "number", "empty", "cut off", "foreign"]
)
def test_what_is_no_picture_is_unreadable_and_named(write: Write, content: object) -> None:
    with pytest.raises(PictureUnreadable, match=r"faces\.parquet#0: .+"):
        list(read_rows(write([content], ["somebody"])))


def test_pixels_of_sixteen_bits_are_not_cut_off_at_white(write: Write) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(buffer, "PNG")
    with pytest.raises(PictureUnreadable, match=r"faces\.parquet#0: pixels of mode I"):
        list(read_rows(write([buffer.getvalue()], ["somebody"])))


# --- the game --------------------------------------------------------------------------------------------------------


def test_a_killed_fit_ends_with_the_same_numbers(faces: Faces, features: TrunkFeatures, tmp_path: Path) -> None:
    def kill_after_second(line: Line) -> None:
        if line["epoch"] == 1:
            raise Killed

    whole, history = fit(faces, settings=TINY, features=features, folder=tmp_path / "whole")
    with pytest.raises(Killed):
        fit(faces, settings=TINY, features=features, folder=tmp_path / "killed", on_epoch=kill_after_second)
    torch.rand(17)  # what another process would have drawn does not count
    resumed, resumed_history = fit(faces, settings=TINY, features=features, folder=tmp_path / "killed")
    without_clock = [[{**line, "seconds": 0} for line in each] for each in (history, resumed_history)]
    assert without_clock[0] == without_clock[1]
    assert len(history) == TINY.epochs
    assert all(torch.equal(one, other) for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True))
    assert [path.name for path in sorted((tmp_path / "whole" / "sheets").iterdir())] == [f"epoch-00{epoch}.png" for epoch in range(3)]
    assert {"fools_whole", "fools_local", "keeps_whole", "keeps_local", "judges_whole", "judges_local", "psnr_1/8"} <= set(history[0])


def test_it_learns_to_brighten(faces: Faces, features: TrunkFeatures, tmp_path: Path) -> None:
    settings = TINY.model_copy(
        update={"steps": 35, "learning_rate": 4e-3, "average_decay": 0.9, "darkening": Darkening(exposure=(1 / 16, 1 / 8), uneven=0.0)}
    )
    _, history = fit(faces, settings=settings, features=features, folder=tmp_path)
    assert history[-1]["luma_brightened_1/8"] > history[-1]["luma_dark_1/8"] + 0.05


def test_other_settings_do_not_go_on_with_this_fit(faces: Faces, features: TrunkFeatures, tmp_path: Path) -> None:
    short = TINY.model_copy(update={"epochs": 1, "steps": 1})
    fit(faces, settings=short, features=features, folder=tmp_path)
    with pytest.raises(RunMismatch):
        fit(faces, settings=short.model_copy(update={"seed": 2}), features=features, folder=tmp_path)


def test_a_loss_that_is_not_a_number_stops_the_game(faces: Faces, features: TrunkFeatures, tmp_path: Path) -> None:
    with torch.no_grad():
        features.layers[0][0].weight.fill_(float("nan"))
    with pytest.raises(TrainingDiverged, match="at step 0"):
        fit(faces, settings=TINY, features=features, folder=tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


# --- what is shipped -------------------------------------------------------------------------------------------------


@pytest.fixture
def eyes(random_release: Path) -> Path:
    return random_release


def test_what_is_trained_is_written_as_the_worker_takes_it(files: list[Path], eyes: Path, tmp_path: Path) -> None:
    settings = TINY.model_copy(update={"epochs": 1})
    words = train(files, licence="CC0", eyes=eyes, out=tmp_path / "run", settings=settings)
    folder = tmp_path / "run" / "enlightener"
    assert enlighteners.read(folder) == words
    assert words.steps == 2
    assert words.metrics["luma_lit"] > words.metrics["luma_dark_1/8"]
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, GENERATOR]


def test_a_changed_or_missing_file_is_refused(files: list[Path], eyes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "enlightener"
    train(files, licence="CC0", eyes=eyes, out=tmp_path / "run", settings=TINY.model_copy(update={"epochs": 1}))
    with (folder / GENERATOR).open("ab") as file:
        file.write(b"more")
    with pytest.raises(ModelDigestMismatch):
        enlighteners.read(folder)
    (folder / GENERATOR).unlink()
    with pytest.raises(ReleaseError, match=r"no generator.pt"):
        enlighteners.read(folder)


def test_the_command_line(files: list[Path], eyes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = TINY.model_copy(update={"epochs": 1, "steps": 1}).model_dump_json()
    words = ["--licence", "CC0", "--eyes", str(eyes), "--out", str(tmp_path / "run"), "--settings", settings]
    assert main([str(files[0]), *words]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 1
    assert main([str(tmp_path / "nowhere.parquet"), *words]) == 1
    assert "data-unusable" in capsys.readouterr().err
    with pytest.raises(SystemExit) as misunderstood:
        main([str(files[0]), *words[:-1], '{"width": 7}'])
    assert misunderstood.value.code == 2
