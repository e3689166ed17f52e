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

from services.preprocess.arrays import Pixels
from services.preprocess.decode.frames import Frame
from services.preprocess.faces.boxes import Boxes, Located, agreed, joined_faces, overlap_of_smaller
from services.preprocess.faces.cuts import Cuts
from services.preprocess.faces.face import Face
from services.preprocess.faces.followed import Followed
from services.preprocess.faces.mtcnn import Networks
from shared.jobs import MAX_FACES

LEAST_FACE_PX: Final = 24
LEAST_FACE_SHARE: Final = 1 / 16
"""The smallest face that is looked for when nobody says: this share of a video's longer side, and so many pixels at least."""

SCAN_EVERY_MS: Final = 500
SCAN_EVERY_FRAMES: Final = 12
"""A scan is due after this much media time or so many frames, whichever comes first."""
LAST_FRAME_SHARE: Final = 0.5
"""Share of that after which the last frame of a batch is scanned."""
SCANS_AFTER_LOSS: Final = 2
"""Frames that are scanned after one in which a face was lost and not found again."""

WORTH_A_SCAN: Final = 0.9
"""Confidence that a face must have had for its loss to cost a scan."""
KNOWN_OVERLAP: Final = 0.6
"""Share of the smaller box from which what P-Net proposes is a face that is known already."""


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

    def due(self, since_ms: int, since_frames: int, *, last: bool) -> bool:
        """Whether to scan again after that long; the `last` frame of a batch early, since no later scan helps the frames before it."""
        share = LAST_FRAME_SHARE if last else 1.0
        return since_ms >= self.every_ms * share or since_frames >= self.every_frames * share


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
        for rgb_hwc in frames_rgb:
            search = self.searching(frame_size=(width, height), min_face_px=min_face_px, max_faces=max_faces)
            (seen,) = search.look([Frame(pts_ms=0, rgb_hwc=rgb_hwc)])
            found.append([face for face in seen.faces if face.confidence >= min_confidence])
        return found


@dataclass(kw_only=True)
class Draft:
    """One frame of a batch, and what has been found in it so far."""

    frame: Tensor
    pts_ms: int
    cut: bool
    proposed: Boxes | None
    """P-Net's squares, if the frame is scanned."""
    faces: Located


class FaceSearch:
    """The search through one video, batch after batch in order of time."""

    def __init__(self, networks: Networks, *, frame_size: tuple[int, int], min_face_px: int, max_faces: int, schedule: Schedule) -> None:
        self._networks = networks
        self._frame_size = frame_size
        self._min_face_px = min_face_px
        self._max_faces = max_faces
        self._schedule = schedule
        self._cuts = Cuts()
        self._followed = Followed.nobody()
        self._scanned_ms: int | None = None
        self._frames_since_scan = 0
        self._scans_owed = 0

    def look(self, frames: Sequence[Frame], *, following: Frame | None = None) -> list[Seen]:
        """What is in each frame. Frames have the size that was said, ValueError otherwise.

        `following` is the first frame of the next batch, None at the end: it says whether the last of these is the first of a new shot.
        """
        self._check_sizes(frames)
        drafts = self._begun(frames, self._cuts.among(frames, following=following))
        for index, draft in enumerate(drafts):
            fresh = self._search(draft)
            if len(fresh) and not draft.cut:
                self._follow_back(fresh, draft.pts_ms, drafts[:index])
        return [self._seen(draft) for draft in drafts]

    def _begun(self, frames: Sequence[Frame], cuts: Sequence[bool]) -> list[Draft]:
        tensors = [self._networks.frame_tensor(frame.rgb_hwc) for frame in frames]
        planned = self._planned(frames, cuts)
        proposed = dict(zip(planned, self._proposed([tensors[index] for index in planned]), strict=True))
        return [
            Draft(frame=tensor, pts_ms=frame.pts_ms, cut=cut, proposed=proposed.get(index), faces=Located.none())
            for index, (frame, tensor, cut) in enumerate(zip(frames, tensors, cuts, strict=True))
        ]

    def _check_sizes(self, frames: Sequence[Frame]) -> None:
        width, height = self._frame_size
        for shape in (frame.rgb_hwc.shape for frame in frames):
            if shape != (height, width, 3):
                raise ValueError(f"the frames of this video are {width} x {height}, not {shape}")

    def _planned(self, frames: Sequence[Frame], cuts: Sequence[bool]) -> list[int]:
        """The frames of a batch that are scanned whatever is seen in them."""
        planned: list[int] = []
        scanned_ms, since = self._scanned_ms, self._frames_since_scan
        for index, (frame, cut) in enumerate(zip(frames, cuts, strict=True)):
            since += 1
            if cut or scanned_ms is None or self._schedule.due(frame.pts_ms - scanned_ms, since, last=index == len(cuts) - 1):
                planned.append(index)
                scanned_ms, since = frame.pts_ms, 0
        return planned

    def _proposed(self, frames: Sequence[Tensor]) -> list[Boxes]:
        """What P-Net proposes for each of the frames, in one go."""
        boxes = self._networks.propose(frames, min_face_px=self._min_face_px)
        return [boxes.of_frame(number) for number in range(len(frames))]

    def _search(self, draft: Draft) -> Located:
        """Find the faces of the next frame. Returns those that only a scan could find."""
        before = Followed.nobody() if draft.cut else self._followed
        draft.faces = self._located(draft, before)
        if draft.proposed is None and (self._scans_owed or before.lost(draft.faces, least_confidence=WORTH_A_SCAN)):
            (draft.proposed,) = self._proposed([draft.frame])
        fresh = self._new(draft, draft.proposed) if draft.proposed is not None else Located.none()
        draft.faces = largest(joined_faces([draft.faces, fresh]))
        self._note(draft, lost=before.lost(draft.faces, least_confidence=WORTH_A_SCAN))
        self._followed = before.seen(draft.faces.picked(slice(MAX_FACES)), draft.pts_ms)
        return fresh

    def _located(self, draft: Draft, followed: Followed) -> Located:
        """Those of the followed faces that are in the frame."""
        guesses = Boxes.in_one_frame(followed.guesses(draft.pts_ms))
        return agreed(self._networks.locate([draft.frame], self._networks.refine([draft.frame], guesses)))

    def _new(self, draft: Draft, proposed: Boxes) -> Located:
        """What a scan finds beside the faces that are known, which need not be judged again from every side."""
        refined = self._networks.refine([draft.frame], proposed.picked(elsewhere(proposed, draft.faces)))
        found = agreed(self._networks.locate([draft.frame], refined.picked(elsewhere(refined, draft.faces))))
        return found.picked(elsewhere(found.boxes, draft.faces))

    def _follow_back(self, fresh: Located, at_ms: int, earlier: Sequence[Draft]) -> None:
        """Find faces that a scan was the first to see in the frames before it, too, as far back as the last scan."""
        followed = Followed.nobody().seen(fresh, at_ms)
        for draft in reversed(earlier):
            found = self._located(draft, followed) if draft.proposed is None else Located.none()
            found = found.picked(elsewhere(found.boxes, draft.faces))
            if not len(found):
                return
            draft.faces = largest(joined_faces([draft.faces, found]))
            followed = followed.seen(found, draft.pts_ms)

    def _note(self, draft: Draft, *, lost: bool) -> None:
        scanned = draft.proposed is not None
        self._frames_since_scan = 0 if scanned else self._frames_since_scan + 1
        self._scanned_ms = draft.pts_ms if scanned else self._scanned_ms
        self._scans_owed = self._schedule.after_loss if lost else max(0, self._scans_owed - scanned)

    def _seen(self, draft: Draft) -> Seen:
        shown = draft.faces.picked(slice(self._max_faces))
        columns = zip(shown.boxes.xyxy, shown.landmarks_xy, shown.boxes.scores.tolist(), strict=True)
        return Seen(
            faces=tuple(Face(box_xyxy=box, landmarks_xy=points, confidence=min(1.0, score)) for box, points, score in columns),
            more=len(draft.faces) - len(shown),
            cut=draft.cut,
            scanned=draft.proposed is not None,
        )


def smallest_face_px(frame_size: tuple[int, int]) -> int:
    """The side of the smallest face that is looked for in such frames when nobody says."""
    return max(LEAST_FACE_PX, round(max(frame_size) * LEAST_FACE_SHARE))


def largest(faces: Located) -> Located:
    """The same faces, largest first."""
    return faces.picked(np.argsort(-faces.areas, kind="stable"))


def elsewhere(boxes: Boxes, known: Located) -> NDArray[np.bool_]:
    """(N,): whether each box is not one of the known faces."""
    result: NDArray[np.bool_] = ~np.any(overlap_of_smaller(boxes.xyxy, known.boxes.xyxy) > KNOWN_OVERLAP, axis=1)
    return result
