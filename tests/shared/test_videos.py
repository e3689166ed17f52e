"""The data folder: nothing half written is seen, nothing deleted stays."""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from shared.errors import MediaMissing, ResultGone, ResultUnreadable, StorageError
from shared.expressions import LABELS
from shared.jobs import Job
from shared.results import Coverage, Media, ModelInfo, Result, TrackWindow
from shared.videos import LONGEST_UPLOAD_S, Videos

JOB = Job(id="an_" + "0" * 32, size_bytes=5, sha256="0" * 64, created_ms=1)


@pytest.fixture
def videos(tmp_path: Path) -> Videos:
    videos = Videos(tmp_path / "data")
    videos.prepare()
    return videos


def result() -> Result:
    return Result(
        id=JOB.id,
        model=ModelInfo(release=1, preprocess="p1"),
        media=Media(duration_ms=1, width=1, height=1, frames_decoded=1, codec="c", container="c", rotation_degrees=0),
        coverage=Coverage(frames_sampled=0, frames_with_face=0, frames_used=0, faces_found=0, faces_used=0, dropped={}),
        tracks=(),
    )


def accepted(videos: Videos) -> None:
    videos.incoming(JOB.id).write_bytes(b"video")
    videos.accept(JOB)


def files(videos: Videos) -> list[Path]:
    return [path for path in videos.root.rglob("*") if path.is_file()]


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Somebody else does this, over and over again."""
    done = threading.Event()

    def repeat() -> None:
        while not done.is_set():
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_an_accepted_upload_has_its_bytes_and_its_manifest(videos: Videos) -> None:
    accepted(videos)
    assert videos.video(JOB.id).read_bytes() == b"video"
    manifest = videos.root / "analyses" / JOB.id / "manifest.json"
    assert Job.model_validate_json(manifest.read_bytes()) == JOB
    assert list((videos.root / "incoming").iterdir()) == []


def test_a_result_is_read_as_it_was_written(videos: Videos) -> None:
    accepted(videos)
    with pytest.raises(ResultGone):
        videos.read_result(JOB.id)
    videos.write_result(result())
    assert videos.read_result(JOB.id) == result()


def test_nothing_is_left_after_deletion_and_nothing_comes_back(videos: Videos) -> None:
    accepted(videos)
    videos.write_result(result())
    assert videos.delete(JOB.id)
    assert not videos.delete(JOB.id)
    assert files(videos) == []
    with pytest.raises(MediaMissing):
        videos.video(JOB.id)
    with pytest.raises(MediaMissing):
        videos.write_result(result())
    with pytest.raises(ResultGone):
        videos.read_result(JOB.id)


def test_a_folder_that_is_no_folder_is_a_storage_error(videos: Videos) -> None:
    (videos.root / "incoming").rmdir()
    (videos.root / "incoming").write_bytes(b"")
    with pytest.raises(StorageError):
        videos.check()


def test_half_uploads_of_yesterday_are_swept_and_those_of_today_are_not(videos: Videos) -> None:
    old, new, folder = videos.incoming("old"), videos.incoming("new"), videos.incoming("old.folder")
    for path in (old, new):
        path.write_bytes(b"half")
    folder.mkdir()
    (folder / "video").write_bytes(b"half")
    yesterday = time.time() - LONGEST_UPLOAD_S - 60
    for path in (old, folder):
        os.utime(path, (yesterday, yesterday))
    videos.prepare()
    assert list((videos.root / "incoming").iterdir()) == [new]


def test_an_upload_that_vanishes_while_it_is_looked_at_keeps_nobody_from_starting(videos: Videos) -> None:
    videos.incoming("gone").symlink_to("nowhere")  # listed, but not there to be asked how old it is
    videos.prepare()


def test_a_deletion_that_failed_says_so_and_can_be_done_again(videos: Videos, monkeypatch: pytest.MonkeyPatch) -> None:
    def unlink(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    accepted(videos)
    with monkeypatch.context() as broken:
        broken.setattr(os, "unlink", unlink)
        with pytest.raises(StorageError):
            videos.delete(JOB.id)
    assert files(videos) != []
    assert videos.delete(JOB.id)
    assert files(videos) == []


def test_what_a_failed_deletion_left_is_swept(videos: Videos) -> None:
    left = videos.incoming(f"{JOB.id}.deleted")
    left.mkdir()
    (left / "video").write_bytes(b"video")
    yesterday = time.time() - LONGEST_UPLOAD_S - 60
    os.utime(left, (yesterday, yesterday))
    videos.prepare()
    assert files(videos) == []


def test_a_deletion_without_its_folders_is_no_success(videos: Videos) -> None:
    accepted(videos)
    (videos.root / "incoming").rmdir()
    with pytest.raises(StorageError):
        videos.delete(JOB.id)


def test_a_result_written_during_the_deletion_does_not_stay(videos: Videos) -> None:
    def write() -> None:
        with suppress(MediaMissing):
            videos.write_result(result())

    def delete() -> None:
        for _ in range(3):
            with suppress(StorageError):  # the result came between the last file and its folder: as a client would, ask again
                videos.delete(JOB.id)
                return
        raise AssertionError("never deleted")

    with meanwhile(write):
        for _ in range(12):
            accepted(videos)
            delete()
            assert list((videos.root / "analyses").iterdir()) == []
    videos.delete(JOB.id)
    assert files(videos) == []


@pytest.mark.parametrize("ask", [Videos.video, Videos.read_result, Videos.result_written_ns])
def test_a_folder_that_may_not_be_looked_into_is_a_storage_error(videos: Videos, ask: Callable[[Videos, str], object]) -> None:
    with pytest.raises(StorageError):
        ask(videos, "x" * 1000)  # refused by the file system, for root as well


def test_a_result_of_another_version_says_so(videos: Videos) -> None:
    accepted(videos)
    (videos.root / "analyses" / JOB.id / "result.json").write_text('{"from": "the future"}')
    with pytest.raises(ResultUnreadable):
        videos.read_result(JOB.id)


# --- windows of a running attempt --------------------------------------------------------------------------------------


def window(start_ms: int) -> TrackWindow:
    scores = {label: 1 / len(LABELS) for label in LABELS}
    return TrackWindow(track_id="t1", start_ms=start_ms, end_ms=start_ms + 500, frames=4, label="sad", scores=scores)


def test_windows_are_read_in_the_order_in_which_they_were_shown(videos: Videos) -> None:
    accepted(videos)
    assert videos.windows(JOB.id, 1, first=0, most=9) == []
    shown = [window(500 * number) for number in (3, 1, 2, 0)]
    for one in shown:
        videos.add_windows(JOB.id, 1, [one])
    assert videos.windows(JOB.id, 1, first=0, most=9) == shown
    assert videos.windows(JOB.id, 1, first=1, most=2) == shown[1:3]
    assert videos.windows(JOB.id, 1, first=4, most=9) == []
    assert videos.windows(JOB.id, 2, first=0, most=9) == []


def test_an_attempt_begins_without_the_windows_of_those_before(videos: Videos) -> None:
    accepted(videos)
    videos.add_windows(JOB.id, 1, [window(0)])
    for attempt in (1, 2):
        videos.begin_windows(JOB.id, attempt)
        assert all(videos.windows(JOB.id, number, first=0, most=9) == [] for number in (1, 2))
        videos.add_windows(JOB.id, attempt, [window(0)])
        assert videos.windows(JOB.id, attempt, first=0, most=9) == [window(0)]


def test_windows_of_a_deleted_analysis_find_no_place(videos: Videos) -> None:
    accepted(videos)
    videos.delete(JOB.id)
    with pytest.raises(MediaMissing):
        videos.begin_windows(JOB.id, 1)
    with pytest.raises(MediaMissing):
        videos.add_windows(JOB.id, 1, [window(0)])
    assert videos.windows(JOB.id, 1, first=0, most=9) == []


def test_windows_that_are_being_written_are_never_read_by_half(videos: Videos) -> None:
    accepted(videos)
    shown = [window(500 * number) for number in range(300)]

    def read() -> None:
        seen = videos.windows(JOB.id, 1, first=0, most=1000)
        assert seen == shown[: len(seen)]

    with meanwhile(read):
        for start in range(0, len(shown), 3):
            videos.add_windows(JOB.id, 1, shown[start : start + 3])
    assert videos.windows(JOB.id, 1, first=0, most=1000) == shown
    file = videos.root / "analyses" / JOB.id / "windows-1.jsonl"
    file.write_text(file.read_text()[:-1])
    assert videos.windows(JOB.id, 1, first=0, most=1000) == shown[:-1]


def test_windows_of_another_version_say_so(videos: Videos) -> None:
    accepted(videos)
    (videos.root / "analyses" / JOB.id / "windows-1.jsonl").write_text('{"from": "the future"}\n')
    with pytest.raises(ResultUnreadable):
        videos.windows(JOB.id, 1, first=0, most=9)
