"""CK+, the extended Cohn-Kanade set: posed expressions as picture sequences, from neutral to the expression's height.

<source>/
  cohn-kanade-images/S005/001/S005_001_00000001.png ...
  Emotion/S005/001/S005_001_00000011_emotion.txt      a code such as `3.0000000e+00`; most sequences have no such file
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from services.preprocess.decode.frames import Frame
from services.preprocess.harvest.decoding import picture_file
from services.preprocess.harvest.folders import existing_folder, files, folders, named
from services.preprocess.harvest.labels import label_of
from services.preprocess.harvest.material import Footage, Tally
from shared.errors import DataUnusable, LabelUnknown, PictureUnreadable
from shared.expressions import LABELS

PICTURES: Final = "cohn-kanade-images"
EMOTIONS: Final = "Emotion"

CODES: Final = ("neutral", "angry", "contempt", "disgust", "fear", "happy", "sad", "surprise")
"""Contempt is none of ours, and is not taken for the next best."""

FRAME_MS: Final = 33
"""Video was digitised at about 30 frames a second; only following the face needs to know."""


def read_ckplus(source: Path, *, neutral_onset: bool, tally: Tally) -> Iterator[Footage]:
    """The sequences that have one of our labels; the others are counted as `unlabelled` and `contempt`. Subjects are CK+'s, such as S005.

    Raises DataUnusable when a folder is missing or a sequence has two labels, and LabelUnknown for a code that CK+ does not have.
    """
    emotions = existing_folder(source / EMOTIONS)
    for person in folders(existing_folder(source / PICTURES)):
        for sequence in folders(person):
            emotion = emotion_in(emotions / person.name / sequence.name) or "unlabelled"
            if emotion not in LABELS:
                tally.dropped[emotion] += 1
                continue
            where = named(source, sequence)
            yield Footage(
                frames=partial(sequence_frames, sequence),
                label=label_of(emotion, where=where),
                subject=person.name,
                source=where,
                begins_neutral=neutral_onset and emotion != "neutral",
            )


def emotion_in(folder: Path) -> str | None:
    """The name of a sequence's emotion, which may also be contempt; None when it has no label."""
    paths = files(folder, {".txt"})
    if not paths:
        return None
    if len(paths) > 1:
        raise DataUnusable(f"{folder} has {len(paths)} labels")
    text = paths[0].read_text(encoding="utf-8", errors="replace").strip()
    with suppress(ValueError):
        code = float(text)
        if code in range(len(CODES)):
            return CODES[int(code)]
    raise LabelUnknown(f"emotion {text!r} in {paths[0]}; CK+ has 0 to 7")


def sequence_frames(sequence: Path) -> Iterator[Frame]:
    """The pictures of a sequence in order. Raises PictureUnreadable, also when they are not of one size, or there are none."""
    paths = files(sequence, {".png"})
    if not paths:
        raise PictureUnreadable("the sequence has no pictures")
    shape = None
    for number, path in enumerate(paths):
        rgb = picture_file(path)
        shape = shape or rgb.shape
        if rgb.shape != shape:
            raise PictureUnreadable(f"{path.name} is {rgb.shape}, the pictures before it are {shape}")
        yield Frame(pts_ms=number * FRAME_MS, rgb_hwc=rgb)
