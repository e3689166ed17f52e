"""Looking for the faces of a video: each frame's faces are where those of the frame before were, or nearly, until a full scan says more.

A scan (P-Net's pyramid over the frame) is what costs most of MTCNN's time, so it is run on the first frame, every so often, at cuts and
when a face is lost. In between the faces of the last frame, moved on as they moved before, are the squares that R-Net refines and in
which O-Net locates. Both judge each frame by itself: nothing is followed that they do not see. A face that a scan is the first to find
is also followed backwards, to the scan before, as far as the batch reaches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from services.preprocess.cuts import Cuts
from services.preprocess.faces import Face
from services.preprocess.followed import Followed
from services.preprocess.mtcnn import ONET_PX, Boxes, Located, Networks, joined_faces, overlap_of_smaller
from shared.jobs import MAX_FACES

LEAST_FACE_PX: Final = 24
LEAST_FACE_SHARE: Final = 1 / 16
"""The smallest face that is looked for when nobody says: this share of a video's longer side, and so many pixels at least."""

SCAN_EVERY_MS: Final = 500
SCAN_EVERY_FRAMES: Final = 12
"""A scan is due after this much media time or so many frames, whichever comes first."""
SCANS_AFTER_LOSS: Final = 2
"""Frames that are scanned after one in which a face was lost and not found again."""

WORTH_A_SCAN: Final = 0.9
"""Confidence that a face must have had for its loss to cost a scan."""
KNOWN_OVERLAP: Final = 0.6
"""Share of the smaller box from which what P-Net proposes is a face that is known already."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What was seen in one frame."""

    faces: tuple[Face, ...]
    """Largest first, of any confidence that O-Net lets through (0.7 and more), in pixels of the frame."""
    more: int = 0
    """Faces beside these, smaller ones."""
    cut: bool = False
    """Whether the frame is the first of a new shot."""
    scanned: bool = False
    """Whether the whole frame was searched."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When a frame is scanned though no face was lost."""

    every_ms: int = SCAN_EVERY_MS
    every_frames: int = SCAN_EVERY_FRAMES
    after_loss: int = SCANS_AFTER_LOSS


class FaceDetector:
    """The networks, built once per worker. Blocking; one thread at a time."""

    def __init__(self, *, device: str = "cpu", schedule: Schedule | None = None) -> None:
        self._networks = Networks(device=device)
        self._schedule = schedule or Schedule()

    def searching(self, *, frame_size: tuple[int, int], min_face_px: int | None = None, max_faces: int = MAX_FACES) -> "FaceSearch":
        """Begin with a video whose upright frames have `frame_size` (width, height).

        `min_face_px` is the side of the smallest face that is looked for; None for a sixteenth of the longer side, 24 at least.
        """
        smallest = min_face_px if min_face_px is not None else smallest_face_px(frame_size)
        return FaceSearch(self._networks, frame_size=frame_size, min_face_px=smallest, max_faces=max_faces, schedule=self._schedule)

    def detect(
        self, frames_rgb: Sequence[Pixels], *, min_face_px: int | None = None, min_confidence: float = 0.9, max_faces: int = MAX_FACES
    ) -> list[list[Face]]:
        """The faces of pictures that have nothing to do with each other but their size: each is scanned. Largest first."""
        if not frames_rgb:
            return []
        height, width = frames_rgb[0].shape[:2]
        found = []
        for frame in frames_rgb:
            search = self.searching(frame_size=(width, height), min_face_px=min_face_px, max_faces=max_faces)
            (seen,) = search.look([frame], [0])
            found.append([face for face in seen.faces if face.confidence >= min_confidence])
        return found


class FaceSearch:
    """The search through one video, batch after batch in order of time."""

    def __init__(self, networks: Networks, *, frame_size: tuple[int, int], min_face_px: int, max_faces: int, schedule: Schedule) -> None:
        self._networks = networks
        self._frame_size = frame_size
        self._shrink = min(1.0, ONET_PX / min_face_px)
        self._size = max(1, round(frame_size[0] * self._shrink)), max(1, round(frame_size[1] * self._shrink))
        self._min_face_px = min_face_px * self._shrink
        self._max_faces = max_faces
        self._schedule = schedule
        self._cuts = Cuts()
        self._followed = Followed.nobody()
        self._scanned_ms: int | None = None
        self._frames_since_scan = 0
        self._scans_owed = 0

    def look(self, frames_rgb: Sequence[Pixels], pts_ms: Sequence[int]) -> list[Seen]:
        """What is in each frame. Frames are uint8 (H, W, 3) RGB of the size that was said, ValueError otherwise; times are media time."""
        for frame in frames_rgb:
            if frame.shape != (self._frame_size[1], self._frame_size[0], 3):
                raise ValueError(f"the frames of this video are {self._frame_size[0]} x {self._frame_size[1]}, not {frame.shape}")
        frames = [self._networks.frame_tensor(frame, self._size) for frame in frames_rgb]
        cuts = [self._cuts.begins(frame) for frame in frames_rgb]
        proposed = self._proposed(frames, self._planned(cuts, pts_ms))
        return [
            self._seen(frame, at_ms, cut=cut, proposed=proposed.get(index))
            for index, (frame, at_ms, cut) in enumerate(zip(frames, pts_ms, cuts, strict=True))
        ]

    def _planned(self, cuts: Sequence[bool], pts_ms: Sequence[int]) -> list[int]:
        """The frames of a batch that are scanned whatever is seen in them."""
        planned: list[int] = []
        scanned_ms, frames = self._scanned_ms, self._frames_since_scan
        for index, (cut, at_ms) in enumerate(zip(cuts, pts_ms, strict=True)):
            frames += 1
            if cut or scanned_ms is None or at_ms - scanned_ms >= self._schedule.every_ms or frames >= self._schedule.every_frames:
                planned.append(index)
                scanned_ms, frames = at_ms, 0
        return planned

    def _proposed(self, frames: Sequence[Tensor], which: Sequence[int]) -> dict[int, Boxes]:
        """What P-Net proposes for those frames, in one go."""
        boxes = self._networks.propose([frames[index] for index in which], min_face_px=self._min_face_px)
        return {
            index: Boxes(frames=np.zeros(int(own.sum()), np.intp), xyxy=boxes.xyxy[own], scores=boxes.scores[own])
            for index, own in ((index, boxes.frames == place) for place, index in enumerate(which))
        }

    def _seen(self, frame: Tensor, at_ms: int, *, cut: bool, proposed: Boxes | None) -> Seen:
        before = Followed.nobody() if cut else self._followed
        faces = self._follow(frame, before, at_ms)
        lost = before.lost(faces, least_confidence=WORTH_A_SCAN)
        if proposed is None and (lost or self._scans_owed):
            proposed = self._proposed([frame], [0])[0]
        if proposed is not None:
            faces = joined_faces([faces, self._new(frame, proposed, faces)])
        self._note(at_ms, scanned=proposed is not None, lost=before.lost(faces, least_confidence=WORTH_A_SCAN))
        faces = faces.picked(np.argsort(-faces.areas, kind="stable"))
        self._followed = before.seen(faces.picked(np.arange(min(len(faces), MAX_FACES))), at_ms)
        return Seen(
            faces=tuple(self._face(faces, index) for index in range(min(len(faces), self._max_faces))),
            more=max(0, len(faces) - self._max_faces),
            cut=cut,
            scanned=proposed is not None,
        )

    def _follow(self, frame: Tensor, before: Followed, at_ms: int) -> Located:
        guesses = Boxes.in_one_frame(before.guesses(at_ms))
        return self._networks.locate([frame], self._networks.refine([frame], guesses))

    def _new(self, frame: Tensor, proposed: Boxes, known: Located) -> Located:
        """The faces that a scan finds beside those that are known."""
        fresh = self._networks.refine([frame], unknown(proposed, known))
        found = self._networks.locate([frame], unknown(fresh, known))
        return found.picked(elsewhere(found.boxes, known))

    def _note(self, at_ms: int, *, scanned: bool, lost: bool) -> None:
        self._frames_since_scan = 0 if scanned else self._frames_since_scan + 1
        self._scanned_ms = at_ms if scanned else self._scanned_ms
        self._scans_owed = self._schedule.after_loss if lost else max(0, self._scans_owed - scanned)

    def _face(self, faces: Located, index: int) -> Face:
        scale = 1 / self._shrink
        return Face(
            box_xyxy=faces.boxes.xyxy[index] * np.float32(scale),
            landmarks_xy=faces.landmarks_xy[index] * np.float32(scale),
            confidence=min(1.0, float(faces.boxes.scores[index])),
        )


def smallest_face_px(frame_size: tuple[int, int]) -> int:
    """The side of the smallest face that is looked for in such frames when nobody says."""
    return max(LEAST_FACE_PX, round(max(frame_size) * LEAST_FACE_SHARE))


def unknown(boxes: Boxes, known: Located) -> Boxes:
    return boxes.picked(elsewhere(boxes, known))


def elsewhere(boxes: Boxes, known: Located) -> NDArray[np.bool_]:
    """(N,): whether each box is not one of the known faces."""
    result: NDArray[np.bool_] = ~np.any(overlap_of_smaller(boxes.xyxy, known.boxes.xyxy) > KNOWN_OVERLAP, axis=1)
    return result
