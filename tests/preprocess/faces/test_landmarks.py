import numpy as np
import pytest
from skimage import data

from services.preprocess.faces.landmarks import FacePictures

ASTRONAUT_FACE = (150, 40, 300, 190)
"""Left, top, right, bottom of the face in skimage's portrait, measured by hand."""


@pytest.fixture(scope="module")
def finder() -> FacePictures:
    return FacePictures()


def test_a_portrait_has_its_landmarks_in_place(finder: FacePictures) -> None:
    left, top, right, bottom = ASTRONAUT_FACE
    (landmarks,) = finder.landmarks([data.astronaut()[top:bottom, left:right]])
    assert landmarks is not None
    left_eye, right_eye, nose, left_mouth, right_mouth = landmarks / 150
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_what_is_no_face_has_no_landmarks(finder: FacePictures) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    assert finder.landmarks([noise, np.zeros((64, 64, 3), dtype=np.uint8)]) == [None, None]
