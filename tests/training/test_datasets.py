from pathlib import Path

import numpy as np
import pytest
import torch

from shared.crops import FRAMES, SAMPLES, STORE, Sample, Store, write_samples
from shared.expressions import LABELS
from shared.releases import PREPROCESS_VERSION, file_sha256
from training.datasets import DataUnusable, Faces, luma, read_faces, split_by_subject


def write_store(folder: Path, samples: list[Sample], *, preprocess: str = PREPROCESS_VERSION) -> Path:
    folder.mkdir()
    frames = np.arange(len(samples), dtype=np.uint8)[:, None, None, None] * np.ones((1, 9, 32, 32), dtype=np.uint8)
    np.save(folder / FRAMES, frames)
    write_samples(folder / SAMPLES, samples)
    store = Store(
        name="s",
        licence="CC0",
        preprocess=preprocess,
        size=32,
        frames=len(samples),
        samples=len(samples),
        sha256={name: file_sha256(folder / name) for name in (FRAMES, SAMPLES)},
    )
    (folder / STORE).write_text(store.model_dump_json())
    return folder


def sample(first: int, **changes: object) -> Sample:
    return Sample.model_validate({"first": first, "label": "happy", "subject": "a", "source": "x", "aligned": True} | changes)


def test_reads_what_is_labelled_and_allowed(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", [sample(0), sample(1, label=None), sample(2, consent=False), sample(3, label="sad", subject="b")])
    faces = read_faces(store)
    assert faces.labels.tolist() == [LABELS.index("happy"), LABELS.index("sad")]
    assert faces.subjects == ("a", "b")
    assert faces.faces[:, 0, 0, 0].tolist() == [0, 3], "the rows that the samples name"


def test_other_cropping_code_is_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", [sample(0)], preprocess="p0")
    with pytest.raises(DataUnusable, match="p0"):
        read_faces(store)


def test_a_split_never_shares_a_subject(painted: Faces) -> None:
    kept, held_out = split_by_subject(painted, held_out=0.4)
    assert kept.subjects
    assert held_out.subjects
    assert not set(kept.subjects) & set(held_out.subjects)
    assert len(kept) + len(held_out) == len(painted)


def test_a_split_with_an_empty_side_is_refused(painted: Faces) -> None:
    with pytest.raises(DataUnusable):
        split_by_subject(painted, held_out=0.0)


def test_files_that_were_not_harvested_are_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", [sample(0)])
    np.save(store / FRAMES, np.zeros((1, 9, 32, 32), dtype=np.uint8) + 1)
    with pytest.raises(DataUnusable, match=r"frames\.npy"):
        read_faces(store)


def test_clips_of_several_frames_are_not_cut_to_their_first(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", [sample(0), sample(0, count=2)])
    with pytest.raises(DataUnusable, match="clips"):
        read_faces(store)


def test_colour_is_read_as_luma() -> None:
    red_green_blue = torch.tensor([200, 100, 50], dtype=torch.uint8).reshape(1, 3, 1, 1).repeat(1, 3, 2, 2)
    assert set(luma(red_green_blue).flatten().tolist()) == {round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)}
