"""Material in, clips out: the same detector, tracker and crops that serving uses, one piece of material at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.preprocess.arrays import Pixels
from services.preprocess.decode.frames import Frame
from services.preprocess.faces.landmarks import FacePictures, mean_landmarks
from services.preprocess.faces.regions import face_tensor
from services.preprocess.faces.search import FaceDetector
from services.preprocess.frontend import FrontEnd
from services.preprocess.harvest.material import Clip, Footage, Picture, Tally
from services.preprocess.harvest.strip import Strip, Strips
from services.preprocess.judge.sightings import LEAST_SIGHTINGS, Sightings
from services.preprocess.light.lowlight import Brightening, Lowlight
from shared.errors import MediaError, MediaMissing, PictureUnreadable
from shared.jobs import Options

PICTURES_PER_BATCH: Final = 256
PIXELS_PER_BATCH: Final = 2**26
"""Bounds the memory that a batch of large pictures takes, to 192 MiB and one picture."""


def cut_pictures(pictures: Iterable[Picture], *, size: int, brightening: Brightening, tally: Tally) -> Iterator[Clip]:
    """A clip of one frame for each picture that can be read. Where no landmarks are found the mean face's are taken."""
    finder = FacePictures()
    for batch in batches(brightened(readable(pictures, tally), brightening)):
        for (picture, rgb), landmarks in zip(batch, finder.landmarks([rgb for _, rgb in batch]), strict=True):
            points = landmarks if landmarks is not None else mean_landmarks(rgb)
            yield Clip(
                frames=face_tensor(rgb, points, size=size)[np.newaxis],
                label=picture.label,
                subject=picture.subject,
                source=picture.source,
                aligned=landmarks is not None,
            )


def readable(pictures: Iterable[Picture], tally: Tally) -> Iterator[tuple[Picture, Pixels]]:
    for picture in pictures:
        tally.opened()
        try:
            rgb = picture.read()
        except PictureUnreadable as error:
            tally.unreadable(picture.source, error)
            continue
        yield picture, rgb


def brightened(pictures: Iterable[tuple[Picture, Pixels]], brightening: Brightening) -> Iterator[tuple[Picture, Pixels]]:
    for picture, rgb in pictures:
        yield picture, brightening.frame(rgb)


def batches(pictures: Iterable[tuple[Picture, Pixels]]) -> Iterator[list[tuple[Picture, Pixels]]]:
    batch: list[tuple[Picture, Pixels]] = []
    pixels = 0
    for picture, rgb in pictures:
        batch.append((picture, rgb))
        pixels += rgb.shape[0] * rgb.shape[1]
        if len(batch) == PICTURES_PER_BATCH or pixels >= PIXELS_PER_BATCH:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


@dataclass(frozen=True, kw_only=True)
class FootageCutter:
    """Cuts videos and sequences."""

    detector: FaceDetector
    lowlight: Lowlight
    options: Options
    """As those of an analysis: what is brightened, and which faces are looked for."""
    size: int
    """S"""
    most: int
    """Frames of a clip."""
    tally: Tally

    def main_faces(self, footage: Iterable[Footage]) -> Iterator[Clip]:
        """One clip for each: the face that fills the most of it, for what is labelled as a whole."""
        for piece in footage:
            yield from self._tried(piece, self._main_face(piece))

    def all_faces(self, footage: Iterable[Footage], *, longest_ms: int) -> Iterator[Clip]:
        """A clip for each track. One that is longer than `longest_ms` becomes several, since an expression does not last."""
        for piece in footage:
            yield from self._tried(piece, self._every_face(piece, longest_ms=longest_ms))

    def _tried(self, piece: Footage, clips: Iterator[Clip]) -> Iterator[Clip]:
        """The clips, as long as the piece can be read; what becomes of it is counted."""
        self.tally.opened()
        found = 0
        try:
            for clip in clips:
                found += 1
                yield clip
        except (MediaError, PictureUnreadable) as error:
            self.tally.unreadable(piece.source, error)
        except MediaMissing:
            self.tally.dropped["deleted"] += 1
        else:
            self.tally.dropped["no_face"] += found == 0

    def _main_face(self, piece: Footage) -> Iterator[Clip]:
        strip = max(self._strips(piece.frames(), longest_ms=None), key=lambda strip: strip.area, default=None)
        if strip is None:
            return
        frames = strip.frames()
        if piece.begins_neutral and strip.first.frame == 0 and len(frames) > 1:
            yield Clip(frames=frames[:1], label="neutral", subject=piece.subject, source=f"{piece.source}#onset", aligned=True)
        yield Clip(frames=frames, label=piece.label, subject=piece.subject, source=piece.source, aligned=True)

    def _every_face(self, piece: Footage, *, longest_ms: int) -> Iterator[Clip]:
        for strip in self._strips(piece.frames(), longest_ms=longest_ms):
            source = f"{piece.source}#t{strip.first.track},{strip.first.pts_ms}-{strip.last.pts_ms}ms"
            yield Clip(frames=strip.frames(), label=piece.label, subject=piece.subject, source=source, aligned=True)

    def _strips(self, frames: Iterator[Frame], *, longest_ms: int | None) -> Iterator[Strip]:
        """Every face that is seen often enough to be trusted, as soon as it has gone: memory holds only those that are in sight.

        What was dropped is counted of a piece that fails midway, too.
        """
        sightings = Sightings()
        try:
            yield from trusted(self._finished(frames, sightings, longest_ms=longest_ms), sightings)
        finally:
            self.tally.dropped.update(sightings.dropped)

    def _finished(self, frames: Iterator[Frame], sightings: Sightings, *, longest_ms: int | None) -> Iterator[Strip]:
        front = FrontEnd(detector=self.detector, lowlight=self.lowlight, options=self.options, size=self.size, sightings=sightings)
        running = Strips(most=self.most, longest_ms=longest_ms)
        for batch in front.batches(frames):
            for crops in front.crops(batch):
                for crop in crops:
                    yield from running.add(crop)
                yield from running.ended(followed=front.followed)
            del batch  # else it would still be held while the next one is gathered
        yield from running.ended(followed=frozenset())


def trusted(strips: Iterable[Strip], sightings: Sightings) -> Iterator[Strip]:
    """Those that serving would trust, too: one that was seen once in the first frames is held back until there are more, or none."""
    doubtful: list[Strip] = []
    for strip in strips:
        if strip.sightings >= LEAST_SIGHTINGS:
            yield strip
        elif sightings.brief:
            doubtful.append(strip)
        else:
            sightings.drop("short_track")
    for strip in doubtful:
        if sightings.brief:
            yield strip
        else:
            sightings.drop("short_track")
