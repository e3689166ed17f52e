"""Landmarks of pictures that are already faces, such as FER2013's: the last of MTCNN's three networks, on the whole picture."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from facenet_pytorch import MTCNN
from PIL import Image

from services.preprocess.arrays import Pixels
from services.preprocess.faces.mtcnn import ONET_PX
from services.preprocess.faces.regions import EYES_XY, MOUTH_XY, Points, upright_side_px

NOSE_XY: Final = (0.5, 0.6)
MEAN_FACE_XY: Final = np.array((*EYES_XY, NOSE_XY, *MOUTH_XY), dtype=np.float32)
"""Where the landmarks lie when nothing better is known: the picture itself is then the upright face."""

LEAST_SCORE: Final = 0.3
SIDE_RANGE: Final = (0.5, 1.6)
"""The upright face must be about as large as the picture, or the landmarks are those of something else."""

SCALE: Final = 1000.0
"""Pixels that a fraction of 1 is measured at."""


class FacePictures:
    """Finds landmarks in pictures that hold one face and little else."""

    def __init__(self) -> None:
        self._onet = MTCNN(device="cpu").onet

    def landmarks(self, pictures_rgb: Sequence[Pixels]) -> list[Points | None]:
        """Landmarks (5, 2) in pixels per picture; None where the network does not see a face of the picture's size."""
        with torch.inference_mode():
            _, points, scores = self._onet(torch.from_numpy(np.stack([onet_input(picture) for picture in pictures_rgb])))
        fractions = points.reshape(-1, 2, 5).permute(0, 2, 1).numpy()
        return [
            in_pixels(landmarks, picture) if score >= LEAST_SCORE and plausible(landmarks) else None
            for picture, landmarks, score in zip(pictures_rgb, fractions, scores[:, 1].tolist(), strict=True)
        ]


def mean_landmarks(picture_rgb: Pixels) -> Points:
    """Landmarks (5, 2) in pixels of a picture in which none were found."""
    return in_pixels(MEAN_FACE_XY, picture_rgb)


def in_pixels(landmarks_fractions: Points, picture_rgb: Pixels) -> Points:
    return landmarks_fractions * np.array(picture_rgb.shape[1::-1], dtype=np.float32)


def onet_input(picture_rgb: Pixels) -> npt.NDArray[np.float32]:
    """One picture as O-Net wants it: 48 by 48, channels first, about -1 to 1."""
    resized = Image.fromarray(picture_rgb).resize((ONET_PX, ONET_PX), Image.Resampling.BILINEAR)
    return (np.asarray(resized, dtype=np.float32).transpose(2, 0, 1) - np.float32(127.5)) / np.float32(128)


def plausible(landmarks_fractions: Points) -> bool:
    """Whether landmarks describe an upright-ish face that fills the picture."""
    least, most = SIDE_RANGE
    return least <= upright_side_px(landmarks_fractions * SCALE) / SCALE <= most
