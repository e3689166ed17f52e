"""Mien's own data folder: videos whose owners said that they may be trained on, and no others."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from services.preprocess.decode.frames import Frame
from services.preprocess.harvest.folders import existing_folder
from services.preprocess.harvest.material import Footage, Tally
from services.preprocess.harvest.videos import video_frames
from shared.errors import StorageError
from shared.videos import Videos


def read_uploads(source: Path, *, sample_fps: float, tally: Tally) -> Iterator[Footage]:
    """The consented analyses, unlabelled. An upload is all that is known of who is on it, so each is a subject of its own.

    The others are counted as `without_consent`. An analysis that is deleted is gone from the next harvest. Raises DataUnusable.
    """
    videos = Videos(existing_folder(source))
    for job_id in videos.ids():
        if not consented(videos, job_id):
            tally.dropped["without_consent"] += 1
            continue
        frames = partial(upload_frames, videos, job_id, sample_fps=sample_fps)
        yield Footage(frames=frames, label=None, subject=job_id, source=job_id)


def consented(videos: Videos, job_id: str) -> bool:
    """Whether the manifest says so. One that is silent, of another version or unreadable has not said so."""
    try:
        return videos.manifest(job_id).options.training_consent
    except StorageError:
        return False


def upload_frames(videos: Videos, job_id: str, *, sample_fps: float) -> Iterator[Frame]:
    """Raises MediaError, and MediaMissing when the analysis was deleted since it was listed."""
    return video_frames(videos.video(job_id), sample_fps=sample_fps)
