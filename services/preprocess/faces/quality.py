"""Which of the faces that were found can be judged, and why the others cannot."""

from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from services.preprocess.arrays import Pixels
from services.preprocess.faces.face import Face
from services.preprocess.faces.regions import Points, levelled, upright_side_px, upright_thumbnail

Reason = Literal["uncertain", "too_small", "blurred", "turned_away"]
Greys = npt.NDArray[np.float64]

LEAST_CONFIDENCE: Final = 0.9
LEAST_SIDE_PX: Final = 24
"""An upright face with a shorter side holds too little of an expression to be judged."""
MOST_BLUR: Final = 0.6
"""Released weights judge what is above it hardly better than by chance; of sharp faces, those of 24 and of 48 px too, next to none are."""
MOST_TURN: Final = 0.6
"""The nose lies beyond an eye, at 0.5: the other eye and its corner of the mouth are behind it.
One portrait in two hundred is turned as far."""

SHARPNESS_PX: Final = 32
"""The blur of a face is measured at this side, whatever the camera's: pixels that are only soft at their own size are no loss."""
MARGIN_PX: Final = 4
"""Cut off around, where hair, background and the frame's edge are."""
SMOOTH_PX: Final = 7


def unfit(face: Face, rgb_hwc: Pixels) -> Reason | None:
    """Why a face of this frame cannot be judged; None when it can. The cheap questions come first."""
    if face.confidence < LEAST_CONFIDENCE:
        return "uncertain"
    if upright_side_px(face.landmarks_xy) < LEAST_SIDE_PX:
        return "too_small"
    if turn(face.landmarks_xy) > MOST_TURN:
        return "turned_away"
    if face_blur(rgb_hwc, face.landmarks_xy) > MOST_BLUR:
        return "blurred"
    return None


def turn(landmarks_xy: Points) -> float:
    """How far the head is turned aside: the nose's distance from the middle of the eyes, along their line and in units of their distance.

    0 from the front and growing with the tangent of the yaw. A tilted head is not turned.
    """
    (left, right, *_), level = levelled(landmarks_xy)
    nose = landmarks_xy[2].astype(np.float64) @ level
    apart = max(float(right[0] - left[0]), float(np.finfo(np.float32).tiny))
    return abs(float(nose[0] - (left[0] + right[0]) / 2)) / apart


def face_blur(rgb_hwc: Pixels, landmarks_xy: Points) -> float:
    """How blurred a face is, 0 to 1: `blur` of the upright face at SHARPNESS_PX."""
    grey = np.asarray(upright_thumbnail(rgb_hwc, landmarks_xy, size=SHARPNESS_PX).convert("L"), dtype=np.float64)
    return blur(grey[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX])


def blur(grey_hw: Greys) -> float:
    """How little a picture changes when it is blurred once more, 0 to 1; the worse of both directions, so motion counts.

    Crété, Dolmiere, Ladret and Nicolas, The Blur Effect: Perception and Estimation with a New No-Reference Perceptual Blur Metric, 2007.
    Contrast and brightness do not matter. A picture without any contrast has nothing that could be blurred: 1.
    """
    return max(blur_down(grey_hw), blur_down(grey_hw.T))


def blur_down(grey_hw: Greys) -> float:
    """The share of the changes from row to row that blurring along the columns leaves."""
    half = SMOOTH_PX // 2
    padded = np.pad(grey_hw, ((half, half), (0, 0)), mode="edge")
    smooth = np.lib.stride_tricks.sliding_window_view(padded, SMOOTH_PX, axis=0).mean(axis=-1)
    changes, left = (np.abs(np.diff(picture, axis=0)) for picture in (grey_hw, smooth))
    total = float(changes.sum())
    return 1 - float(np.maximum(changes - left, 0).sum()) / total if total > 0 else 1.0
