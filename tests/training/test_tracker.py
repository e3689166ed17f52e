"""The curves, read back with the reader that TensorBoard itself shows them from."""

import re
import threading
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import STORE_EVERYTHING_SIZE_GUIDANCE, EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from shared.errors import InsufficientStorage, StorageError
from shared.expressions import LABELS
from training.record import Gain, Measured, Round
from training.tracker import ROUNDS, Tracker, confusion_picture


def measured(right: int = 6, wrong: int = 2) -> Measured:
    confusion = tuple(tuple(right if row == column else wrong * ((row + 1) % 7 == column) for column in range(7)) for row in range(7))
    share = right / (right + wrong)
    return Measured(
        samples=7 * (right + wrong),
        accuracy=share,
        macro_f1=share,
        mean_recall=share,
        calibration_error=0.05,
        recall=dict.fromkeys(LABELS, share),
        confusion=confusion,
    )


def student(number: int = 1, **changed: object) -> Round:
    values = {
        "number": number,
        "teacher": f"round-{number - 1}",
        "unlabelled": 500,
        "confident": {"happy": 200, "sad": 4},
        "balanced": {"happy": 60, "sad": 20},
        "measured": {"fer-val": measured()},
        "gain": Gain(macro_f1=0.02, low=0.01, high=0.03, accuracy=0.015),
        "became_champion": True,
        "why": "The interval is above zero.",
        "minutes": 3.5,
    }
    return Round.model_validate(values | changed)


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance=STORE_EVERYTHING_SIZE_GUIDANCE)
    return events.Reload()


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, pytest.approx(make_ndarray(event.tensor_proto).item())) for event in read(folder).Tensors(tag)]


def later() -> None:
    """Wait for the clock's next second: event files of the same second are read in no particular order."""
    time.sleep(1 - time.time() % 1)


def told(epoch: int, loss: float) -> dict[str, float]:
    return {"epoch": epoch, "loss": loss, "seconds": 1.5, "fer-val_accuracy": 1 - loss, "faces_2_macro_f1": 0.5}


def test_every_epoch_is_a_point_on_its_rounds_curves(tmp_path: Path) -> None:
    with Tracker(tmp_path) as tracker:
        for epoch in range(3):
            tracker.epoch(0, told(epoch, 0.9 - 0.1 * epoch))
        tracker.epoch(1, told(0, 0.5))
    assert points(tmp_path / "round-0", "fit/loss") == [(0, 0.9), (1, 0.8), (2, 0.7)]
    assert points(tmp_path / "round-0", "accuracy/fer-val") == [(0, 0.1), (1, 0.2), (2, 0.3)]
    assert points(tmp_path / "round-0", "macro_f1/faces_2") == [(0, 0.5), (1, 0.5), (2, 0.5)]
    assert points(tmp_path / "round-1", "fit/loss") == [(0, 0.5)]


def test_a_point_is_on_the_disk_as_soon_as_it_is_told(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    tracker.epoch(0, told(0, 0.9))
    assert points(tmp_path / "round-0", "fit/loss") == [(0, 0.9)]
    tracker.close()


def test_epochs_that_a_killed_run_does_again_are_shown_once(tmp_path: Path) -> None:
    for first, loss in ((0, 0.9), (2, 0.5)):
        later()
        with Tracker(tmp_path) as tracker:
            for epoch in range(first, 4):
                tracker.epoch(0, told(epoch, loss))
    assert points(tmp_path / "round-0", "fit/loss") == [(0, 0.9), (1, 0.9), (2, 0.5), (3, 0.5)]


def test_a_history_told_from_its_beginning_is_shown_once(tmp_path: Path) -> None:
    for _ in range(2):
        later()
        with Tracker(tmp_path) as tracker:
            for epoch in range(3):
                tracker.epoch(0, told(epoch, 0.4))
    assert points(tmp_path / "round-0", "fit/loss") == [(0, 0.4), (1, 0.4), (2, 0.4)]


def test_a_round_leaves_figures_class_sizes_and_gain(tmp_path: Path) -> None:
    with Tracker(tmp_path) as tracker:
        tracker.round(student(0, teacher=None, confident={}, balanced={}, gain=None))
        tracker.round(student(1))
    rounds = tmp_path / ROUNDS
    assert points(rounds, "accuracy/fer-val") == [(0, 0.75), (1, 0.75)]
    assert points(rounds, "calibration_error/fer-val") == [(0, 0.05), (1, 0.05)]
    assert points(rounds, "classes before balancing/happy") == [(1, 200)]
    assert points(rounds, "classes after balancing/happy") == [(1, 60)]
    assert points(rounds, "classes after balancing/fear") == [(1, 0)]
    assert points(rounds, "gain/low") == [(1, 0.01)]
    assert {f"recall on fer-val/{label}" for label in LABELS} <= set(read(rounds).Tags()["tensors"])


def test_a_round_leaves_its_confusion_as_a_picture_and_its_report_in_words(tmp_path: Path) -> None:
    with Tracker(tmp_path) as tracker:
        tracker.round(student())
    events = read(tmp_path / ROUNDS)
    (picture,) = events.Tensors("confusion/fer-val")
    width, height, *encoded = picture.tensor_proto.string_val
    assert (int(width), int(height)) == confusion_picture(measured()).shape[:0:-1]
    assert encoded[0].startswith(b"\x89PNG")
    (words,) = events.Tensors("report/text_summary")
    text = words.tensor_proto.string_val[0].decode()
    assert "The student beat its teacher." in text
    assert re.search(r"\| happy \| 200 \| 60 \|", text)


def test_rounds_that_a_killed_run_does_again_are_shown_once(tmp_path: Path) -> None:
    for accuracy_of in (measured(4, 4), measured(6, 2)):
        later()
        with Tracker(tmp_path) as tracker:
            tracker.round(student(1, measured={"fer-val": accuracy_of}))
    events = read(tmp_path / ROUNDS)
    assert points(tmp_path / ROUNDS, "accuracy/fer-val") == [(1, 0.75)]
    assert len(events.Tensors("confusion/fer-val")) == 1
    assert len(events.Tensors("report/text_summary")) == 1


def test_the_confusion_picture_is_white_where_every_verdict_is_right() -> None:
    picture = confusion_picture(measured(5, 0))[0]
    cells = picture[::32, ::32]
    assert cells.diagonal().tolist() == [255] * 7
    assert int(cells.sum()) == 7 * 255


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "curves").write_bytes(b"")
    with pytest.raises(StorageError):
        Tracker(tmp_path / "curves").epoch(0, told(0, 0.5))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the writer's thread says it, too
def test_a_full_disk_is_said_to_be_full(tmp_path: Path) -> None:
    others = set(threading.enumerate())
    tracker = Tracker(tmp_path)
    tracker.epoch(0, told(0, 0.9))
    (events,) = (tmp_path / "round-0").iterdir()
    events.unlink()
    events.symlink_to("/dev/full")
    (writing,) = set(threading.enumerate()) - others
    with pytest.raises(InsufficientStorage):
        tracker.epoch(0, told(1, 0.8))
    writing.join()  # or what it says is heard in the middle of another test
