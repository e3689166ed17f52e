"""Videos: labelled ones in a folder per class, as AFEW has them, and any folder of unlabelled ones, such as BoLD's."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from services.preprocess.decode.decoding import decoded
from services.preprocess.decode.frames import Frame
from services.preprocess.decode.limits import Limits
from services.preprocess.harvest.folders import class_folders, existing_folder, files, named
from services.preprocess.harvest.material import Footage

SUFFIXES: Final = frozenset({".3g2", ".3gp", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})

LONGEST_MS: Final = 24 * 3600 * 1000
"""A film may be a data set's; what a client may upload is another matter."""


def read_afew(source: Path, *, sample_fps: float) -> Iterator[Footage]:
    """The clips of one of AFEW's folders, such as Train_AFEW. It does not say who plays, so each clip is a subject of its own.

    Raises DataUnusable, and LabelUnknown before the first clip.
    """
    for label, folder in class_folders(source):
        for path in files(folder, SUFFIXES):
            where = named(source, path)
            yield Footage(frames=partial(video_frames, path, sample_fps=sample_fps), label=label, subject=where, source=where)


def read_videos(source: Path, *, sample_fps: float) -> Iterator[Footage]:
    """Every video in a folder and below. All faces of a video are one subject: a track is no identity. Raises DataUnusable."""
    for path in files(existing_folder(source), SUFFIXES):
        where = named(source, path)
        yield Footage(frames=partial(video_frames, path, sample_fps=sample_fps), label=None, subject=where, source=where)


def video_frames(path: Path, *, sample_fps: float) -> Iterator[Frame]:
    """As serving samples them, and as safely: an upload is a stranger's file here, too. Raises MediaError."""
    with decoded(path, sample_fps=sample_fps, limits=Limits(max_duration_ms=LONGEST_MS)) as video:
        yield from video.frames()
