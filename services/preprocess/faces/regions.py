"""From five landmarks to the face tensor: the one function that serving and training crop with.

The face is turned until the eyes are level and scaled and moved until eyes and mouth lie where `EYES_XY` and
`MOUTH_XY` say; eyes and mouth are then cut out of that upright face. Any change here that alters a pixel of a face as large as
those that releases have learnt from must change `shared.releases.PREPROCESS_VERSION`. (Faces of more than 512 pixels were once sampled
too coarsely; none that anything was trained on is as large, so that mending it has left version p1 what it was.)
"""

import math
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from services.preprocess.arrays import Doubles, Pixels
from shared.expressions import REGIONS

Points = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]

EYES_XY: Final = ((0.318, 0.385), (0.682, 0.385))
MOUTH_XY: Final = ((0.345, 0.782), (0.655, 0.782))
"""Where eyes and mouth corners lie in the upright face, in fractions of its side: the mean face of FER2013, so that
48-pixel faces which come already cropped are hardly resampled."""

BOXES: Final[dict[str, Box]] = {"face": (0.0, 0.0, 1.0, 1.0), "eyes": (0.06, 0.12, 0.94, 0.56), "mouth": (0.14, 0.56, 0.86, 1.0)}
"""Left, top, right, bottom of each region in fractions of the upright face: the eyes from the upper half and the mouth
from the lower half, as the paper does."""

TARGET_XY: Final = np.array((*EYES_XY, *MOUTH_XY))

UNIT_SQUARE: Final = np.array(((0.0, 1.0, 0.0, 1.0), (0.0, 0.0, 1.0, 1.0)))
MARGIN_STEPS: Final = 2
"""Pixels of the reduced picture around a face, from which its outermost ones are interpolated."""

MAX_UPRIGHT_PX: Final = 512
"""No crop is wider than this before it is reduced to S; a face that fills a 4K frame gains nothing from more."""


def face_tensor(rgb_hwc: Pixels, landmarks_xy: Points, *, size: int) -> Pixels:
    """Cut face, eyes and mouth from a frame and stack them as uint8 (9, size, size), in the order of `REGIONS`.

    `landmarks_xy` is (5, 2) in pixels, in MTCNN's order: left eye, right eye, nose, left and right mouth corner as seen
    in the image. Pixels outside the frame are black.
    """
    face = upright_face(rgb_hwc, landmarks_xy, least_px=size)
    crops = [face.resize((size, size), Image.Resampling.BILINEAR, box=scaled(BOXES[region], face.width)) for region in REGIONS]
    stacked = np.concatenate([np.asarray(crop) for crop in crops], axis=2)
    return np.ascontiguousarray(stacked.transpose(2, 0, 1))


def upright_thumbnail(rgb_hwc: Pixels, landmarks_xy: Points, *, size: int) -> Image.Image:
    """The upright face at `size`, averaged down: for what is asked of every face found, and not for the network."""
    face = upright_face(rgb_hwc, landmarks_xy, least_px=size, most_px=2 * size)
    return face.resize((size, size), Image.Resampling.BILINEAR)


def upright_face(rgb_hwc: Pixels, landmarks_xy: Points, *, least_px: int, most_px: int = MAX_UPRIGHT_PX) -> Image.Image:
    """The square face, eyes level, at about the frame's own resolution but never smaller than `least_px` or larger than `most_px`.

    A larger face is averaged down by a whole number first, so that the interpolation hardly changes its size, and no pattern becomes moire.

    Rotation comes from the eyes alone, scale and place from eyes and mouth corners by least squares: a turned head
    brings the eyes together, and the mouth keeps it from being blown up. Touches the face's surroundings only, not the whole frame.
    """
    turned, level = levelled(landmarks_xy)
    scale = side_px(turned)
    offset = turned.mean(axis=0) - scale * TARGET_XY.mean(axis=0)

    shrink = math.ceil(round(scale) / most_px)
    side = min(most_px, max(least_px, round(scale / shrink)))
    patch, corner = surroundings(rgb_hwc, level @ (offset[:, None] + scale * UNIT_SQUARE), step=shrink)
    # Pillow maps each output pixel back to the picture it is given: patch * shrink + corner = level @ (pixel * scale / side + offset)
    to_patch = level * (scale / side / shrink)
    origin = (level @ offset - corner) / shrink
    matrix = (to_patch[0, 0], to_patch[0, 1], origin[0], to_patch[1, 0], to_patch[1, 1], origin[1])
    return reduced(patch, shrink).transform((side, side), Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR)


def surroundings(rgb_hwc: Pixels, corners_xy: Doubles, *, step: int) -> tuple[Pixels, Doubles]:
    """The part of the frame around points (2, N), with what is interpolated from, and where it begins (2,).

    It begins and ends at multiples of `step` or at the frame's edge, so that reducing it gives what reducing the frame does. At least one
    pixel, wherever the points lie.
    """
    edges = np.array((rgb_hwc.shape[1], rgb_hwc.shape[0]))
    first = (np.floor(corners_xy.min(axis=1)) - MARGIN_STEPS * step).clip(0, edges - 1).astype(int) // step * step
    last = -((np.ceil(corners_xy.max(axis=1)) + MARGIN_STEPS * step).clip(first + 1, edges).astype(int) // -step) * step
    (left, top), (right, bottom) = first, last
    return rgb_hwc[top:bottom, left:right], first.astype(np.float64)


def levelled(landmarks_xy: Points) -> tuple[Doubles, Doubles]:
    """Eyes and mouth corners (4, 2), turned until the eyes are level, and the rotation (2, 2) that turns them back."""
    points = landmarks_xy[[0, 1, 3, 4]].astype(np.float64)
    roll = math.atan2(points[1, 1] - points[0, 1], points[1, 0] - points[0, 0])
    level = np.array(((math.cos(roll), -math.sin(roll)), (math.sin(roll), math.cos(roll))))
    return points @ level, level


def side_px(levelled_xy: Doubles) -> float:
    """Side of the upright face in frame pixels: the least-squares scale from target fractions to levelled landmarks."""
    source, target = levelled_xy - levelled_xy.mean(axis=0), TARGET_XY - TARGET_XY.mean(axis=0)
    return max(1.0, float((source * target).sum() / (target * target).sum()))


def upright_side_px(landmarks_xy: Points) -> float:
    """How many frame pixels the side of the upright face spans: what decides whether a face is large enough to judge."""
    return side_px(levelled(landmarks_xy)[0])


def scaled(box: Box, side: int) -> Box:
    left, top, right, bottom = box
    return left * side, top * side, right * side, bottom * side


def reduced(rgb_hwc: Pixels, shrink: int) -> Image.Image:
    """Averaged down by a whole number, for what is that much finer than what is cut from it."""
    picture = Image.fromarray(rgb_hwc)
    return picture.reduce(shrink) if shrink > 1 else picture
