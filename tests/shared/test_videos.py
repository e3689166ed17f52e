import os
import time
from pathlib import Path

import pytest

from shared.errors import JobNotFound, ResultGone, StorageError
from shared.jobs import Job
from shared.results import Coverage, Media, ModelInfo, Result
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
    videos.delete(JOB.id)
    videos.delete(JOB.id)
    assert [path for path in videos.root.rglob("*") if path.is_file()] == []
    with pytest.raises(JobNotFound):
        videos.video(JOB.id)
    with pytest.raises(JobNotFound):
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
