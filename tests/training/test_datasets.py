from pathlib import Path

import numpy as np
import pytest
import torch

from shared.crops import FRAMES, SAMPLES, STORE, Sample, Store
from shared.errors import ClassMissing, DataUnusable, LabelUnknown, SubjectsLeak
from shared.expressions import LABELS
from shared.releases import PREPROCESS_VERSION, file_sha256
from tests.painted import painted_clips, write_painted_store
from tests.samples import write_samples
from training.datasets import Clips, check_apart, check_classes, joined, luma, read_clips, split_by_subject


def write_store(folder: Path, samples: list[Sample], *, frames: int = 8, preprocess: str = PREPROCESS_VERSION) -> Path:
    folder.mkdir()
    np.save(folder / FRAMES, np.arange(frames, dtype=np.uint8)[:, None, None, None] * np.ones((1, 9, 32, 32), dtype=np.uint8))
    write_samples(folder / SAMPLES, samples)
    sign_off(folder, frames=frames, samples=len(samples), preprocess=preprocess)
    return folder


def sign_off(folder: Path, *, frames: int, samples: int, preprocess: str = PREPROCESS_VERSION) -> None:
    digests = {name: file_sha256(folder / name) for name in (FRAMES, SAMPLES)}
    store = Store(name="s", licence="CC0", preprocess=preprocess, size=32, frames=frames, samples=samples, sha256=digests)
    (folder / STORE).write_text(store.model_dump_json())


def sample(first: int, **changes: object) -> Sample:
    return Sample.model_validate({"first": first, "label": "happy", "subject": "a", "source": "x", "aligned": True} | changes)


def test_reads_clips_with_their_labels_and_frames(tmp_path: Path) -> None:
    samples = [sample(0), sample(1, count=3, label="sad", subject="b"), sample(4, label=None), sample(5, licence="CC-BY")]
    clips = read_clips(write_store(tmp_path / "s", samples))
    assert clips.labels[:2].tolist() == [LABELS.index("happy"), LABELS.index("sad")]
    assert clips.is_labelled.tolist() == [True, True, False, True]
    assert clips.licences == ("CC0", "CC0", "CC0", "CC-BY")
    assert clips.subjects == ("a", "b", "a", "a")
    assert [clips.frames_of(row)[:, 0, 0, 0].tolist() for row in range(4)] == [[0], [1, 2, 3], [4], [5]]
    assert len(clips.labelled()) == 3


def test_without_consent_not_even_the_pixels_are_read(tmp_path: Path) -> None:
    clips = read_clips(write_store(tmp_path / "s", [sample(0), sample(1, count=2, consent=False), sample(3)]))
    assert len(clips) == 2
    assert clips.frames[:, 0, 0, 0].tolist() == [0, 3]
    with pytest.raises(DataUnusable, match="may be trained on"):
        read_clips(write_store(tmp_path / "none", [sample(0, consent=False)]))


def test_other_cropping_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataUnusable, match="p0"):
        read_clips(write_store(tmp_path / "s", [sample(0)], preprocess="p0"))


def test_no_store_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(DataUnusable, match="no crop store in nowhere"):
        read_clips(tmp_path / "nowhere")


def test_a_label_that_is_not_ours_is_named(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", [sample(0)])
    lines = (store / SAMPLES).read_text().replace("happy", "contempt")
    (store / SAMPLES).write_text(lines)
    sign_off(store, frames=8, samples=1)
    with pytest.raises(LabelUnknown, match="contempt"):
        read_clips(store)


def test_files_that_were_not_harvested_are_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", [sample(0)])
    np.save(store / FRAMES, np.zeros((8, 9, 32, 32), dtype=np.uint8) + 1)
    with pytest.raises(DataUnusable, match=r"frames\.npy"):
        read_clips(store)


def test_samples_that_name_frames_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataUnusable, match="does not have"):
        read_clips(write_store(tmp_path / "s", [sample(7, count=2)]))


def test_colour_is_read_as_luma() -> None:
    red_green_blue = np.array([200, 100, 50], dtype=np.uint8).reshape(1, 3, 1, 1) * np.ones((1, 3, 2, 2), dtype=np.uint8)
    grey = luma(np.tile(red_green_blue, (1, 3, 1, 1)), np.array([0]))
    assert grey.shape == (1, 3, 2, 2)
    assert set(grey.flatten().tolist()) == {round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)}


def test_a_store_on_the_disk_is_the_same_as_in_memory(tmp_path: Path) -> None:
    stored, made = read_clips(write_painted_store(tmp_path / "painted", 21, frames=2)), painted_clips(21, frames=2)
    assert torch.equal(stored.frames, made.frames)
    assert torch.equal(stored.targets, made.targets)
    assert stored.subjects == made.subjects


def test_parts_and_joined_clips_keep_frames_with_their_labels() -> None:
    one, other = painted_clips(14, frames=2), painted_clips(7, seed=1)
    both = joined([one.part([3, 3, 5]), other, one.part([0])])
    assert len(both) == 11
    assert len(both.frames) == len(one.frames) + len(other.frames), "shared frames are there once"
    assert torch.equal(both.frames_of(0), one.frames_of(3))
    assert torch.equal(both.frames_of(4), other.frames_of(1))
    assert torch.equal(both.frames_of(10), one.frames_of(0))
    assert both.labels.tolist() == [3, 3, 5, *range(7), 0]


def test_crops_of_two_sizes_do_not_mix() -> None:
    clips = painted_clips(7)
    with pytest.raises(DataUnusable, match="several sizes"):
        joined([clips, clips.resized(24)])


def test_crops_can_be_made_smaller_but_not_larger() -> None:
    clips = painted_clips(7)
    assert clips.resized(24).frames.shape == (7, 3, 24, 24)
    assert clips.resized(32) is clips
    with pytest.raises(DataUnusable, match="harvest"):
        clips.resized(48)


def test_a_split_never_shares_a_subject(painted: Clips) -> None:
    kept, held_out = split_by_subject(painted, held_out=0.4)
    assert kept.subjects
    assert held_out.subjects
    assert not set(kept.subjects) & set(held_out.subjects)
    assert len(kept) + len(held_out) == len(painted)
    check_apart([kept], [held_out])


def test_a_split_with_an_empty_side_is_refused(painted: Clips) -> None:
    with pytest.raises(DataUnusable):
        split_by_subject(painted, held_out=0.0)


def test_a_subject_on_both_sides_is_named(painted: Clips) -> None:
    with pytest.raises(SubjectsLeak, match="person"):
        check_apart([painted.part([0, 1])], [painted.part([2])])


def test_a_class_without_samples_is_named(painted: Clips) -> None:
    fearless = painted.part([row for row, label in enumerate(painted.labels.tolist()) if LABELS[label] != "fear"])
    with pytest.raises(ClassMissing, match="fear"):
        check_classes([fearless])
    check_classes([fearless, painted])
