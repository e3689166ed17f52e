"""The front end: frames in, the tensors of the faces in them out, each on its track. Serving and harvest have only this one.

brighten what is dark -> find faces -> follow them -> leave out what cannot be judged -> cut the regions
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.preprocess.arrays import Pixels
from services.preprocess.decode.frames import Frame
from services.preprocess.faces.crop import Crop
from services.preprocess.faces.face import Face
from services.preprocess.faces.quality import unfit
from services.preprocess.faces.regions import face_tensor
from services.preprocess.faces.search import FaceDetector, FaceSearch, Seen
from services.preprocess.faces.tracks import Tracker
from services.preprocess.judge.sightings import Sightings
from services.preprocess.light.lowlight import Lowlight
from services.preprocess.stopwatch import Stopwatch
from shared.jobs import Enhance, Options
from shared.results import Enhancement

FRAMES_PER_BATCH: Final = 16
"""Sampled frames in memory at a time, beside the one that follows them, and about as many faces as one request to the model holds."""
BYTES_PER_BATCH: Final = 64 * 2**20
"""Bounds what a batch of large frames takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadyFrame(Frame):
    """A sampled frame as faces are searched for in it."""

    brightened: bool


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Frames that are searched together, in order of time."""

    frames: Sequence[ReadyFrame]
    following: ReadyFrame | None
    """The one after them, by which a flash in the last of them is told from a cut; None at the end of the video."""


class FrontEnd:
    """Reads the faces of one video, batch after batch. Frames come in order of time, all of one size."""

    def __init__(
        self,
        *,
        detector: FaceDetector,
        lowlight: Lowlight,
        options: Options,
        size: int,
        sightings: Sightings,
        watch: Stopwatch | None = None,
    ) -> None:
        """size: S, side of the crops in pixels. sightings: counts what is seen and left out."""
        self._detector = detector
        self._brightening = lowlight.brightening(options.enhance)
        self._options = options
        self._size = size
        self._sightings = sightings
        self._watch = watch or Stopwatch()
        self._tracker = Tracker()
        self._searching: FaceSearch | None = None

    @property
    def followed(self) -> frozenset[int]:
        """The tracks that a later frame may still continue."""
        return self._tracker.followed

    def batches(self, frames: Iterable[Frame]) -> Iterator[Batch]:
        """The frames as `crops` takes them, the dark ones brightened. Reads one frame ahead of each batch."""
        return in_batches(map(self._ready, frames))

    def crops(self, batch: Batch) -> Iterator[list[Crop]]:
        """The faces of each frame that are fit to be judged."""
        frames = batch.frames
        with self._watch("detect"):
            found = self._search(frames[0]).look(frames, following=batch.following)
        for frame, seen in zip(frames, found, strict=True):
            with self._watch("enhance"):
                bright = self._brightened(frame, seen)
            with self._watch("follow"):
                crops = list(self._fit(frame.pts_ms, bright, seen))
            yield crops

    def enhancement(self) -> Enhancement:
        """What was done against the dark so far."""
        return self._brightening.report()

    def _search(self, first: Frame) -> FaceSearch:
        """One search for the whole video, begun when the size of its frames is known."""
        if self._searching is None:
            height, width = first.rgb_hwc.shape[:2]
            self._searching = self._detector.searching(frame_size=(width, height), min_face_px=self._options.min_face)
        return self._searching

    def _ready(self, frame: Frame) -> ReadyFrame:
        with self._watch("enhance"):
            bright = self._brightening.frame(frame.rgb_hwc)
        return ReadyFrame(pts_ms=frame.pts_ms, rgb_hwc=bright, brightened=bright is not frame.rgb_hwc)

    def _brightened(self, frame: ReadyFrame, seen: Seen) -> Pixels:
        """A frame that was bright enough as a whole may hold faces in deep shade. One that has been brightened as asked is done."""
        if self._options.enhance is not Enhance.AUTO or frame.brightened or not seen.faces:
            return frame.rgb_hwc
        return self._brightening.faces(frame.rgb_hwc, np.stack([face.box_xyxy for face in seen.faces]))

    def _fit(self, pts_ms: int, rgb_hwc: Pixels, seen: Seen) -> Iterator[Crop]:
        """Give each face its track, and cut the largest of those that can be judged: one that cannot takes nobody's place."""
        number, most = self._sightings.frames_sampled, self._options.max_faces
        self._sightings.saw_frame(faces=len(seen.faces), more=seen.more)
        tracks = self._tracker.update(pts_ms, seen.faces, rgb_hwc, cut=seen.cut)
        fit = [(face, track) for face, track in zip(seen.faces, tracks, strict=True) if self._is_fit(face, rgb_hwc)]
        self._sightings.drop("too_many", len(fit[most:]))
        for face, track in fit[:most]:
            yield Crop(
                track=track,
                frame=number,
                pts_ms=pts_ms,
                box=fractions(face, rgb_hwc),
                tensor=face_tensor(rgb_hwc, face.landmarks_xy, size=self._size),
            )

    def _is_fit(self, face: Face, rgb_hwc: Pixels) -> bool:
        reason = unfit(face, rgb_hwc)
        if reason:
            self._sightings.drop(reason)
        return reason is None


def in_batches(frames: Iterable[ReadyFrame]) -> Iterator[Batch]:
    gathered: list[ReadyFrame] = []
    for frame in frames:
        if is_full(gathered):
            yield Batch(frames=gathered, following=frame)
            gathered = []
        gathered.append(frame)
    if gathered:
        yield Batch(frames=gathered, following=None)


def is_full(frames: Sequence[ReadyFrame]) -> bool:
    return len(frames) >= FRAMES_PER_BATCH or sum(frame.rgb_hwc.nbytes for frame in frames) >= BYTES_PER_BATCH


def fractions(face: Face, rgb_hwc: Pixels) -> tuple[float, float, float, float]:
    """The face's box in fractions of the frame, cut off at its edges."""
    height, width = rgb_hwc.shape[:2]
    left, top, right, bottom = np.clip(face.box_xyxy / (width, height, width, height), 0, 1).round(4).tolist()
    return left, top, right, bottom
