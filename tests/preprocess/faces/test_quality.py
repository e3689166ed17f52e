"""Which faces are judged: a real portrait, and what is done to it by known amounts."""

import numpy as np
import pytest
from PIL import Image, ImageFilter
from skimage.data import astronaut
from skimage.measure import blur_effect

from services.preprocess.faces.face import Face
from services.preprocess.faces.quality import LEAST_SIDE_PX, MOST_BLUR, blur, face_blur, turn, unfit
from services.preprocess.faces.regions import upright_side_px

LANDMARKS = np.array([(203, 113), (246, 111), (224, 141), (207, 162), (244, 161)], dtype=np.float32)
SIDE_PX = upright_side_px(LANDMARKS)


def face(landmarks=LANDMARKS, confidence=0.99):
    box = np.concatenate([landmarks.min(axis=0) - 30, landmarks.max(axis=0) + 30])
    return Face(box_xyxy=box.astype(np.float32), landmarks_xy=landmarks.astype(np.float32), confidence=confidence)


def blurred(share):
    """The portrait, blurred by a Gaussian whose sigma is this share of the face's side."""
    return np.asarray(Image.fromarray(astronaut()).filter(ImageFilter.GaussianBlur(share * SIDE_PX)))


def resized(side_px):
    """The portrait with a face of this side, and the landmarks in it."""
    factor = side_px / SIDE_PX
    picture = Image.fromarray(astronaut())
    size = round(picture.width * factor), round(picture.height * factor)
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR)), (LANDMARKS * factor).astype(np.float32)


def test_a_good_face_is_judged():
    assert unfit(face(), astronaut()) is None


@pytest.mark.parametrize(("confidence", "reason"), [(0.9, None), (0.899, "uncertain")])
def test_a_face_that_the_detector_is_not_sure_of(confidence, reason):
    assert unfit(face(confidence=confidence), astronaut()) == reason


@pytest.mark.parametrize(("side_px", "reason"), [(LEAST_SIDE_PX + 1, None), (LEAST_SIDE_PX - 1, "too_small")])
def test_a_small_face(side_px, reason):
    frame, landmarks = resized(side_px)
    assert unfit(face(landmarks), frame) == reason


@pytest.mark.parametrize("share", [0.08, 0.11, 0.15])
def test_a_blurred_face_is_not_judged(share):
    assert unfit(face(), blurred(share)) == "blurred"


@pytest.mark.parametrize("share", [0.01, 0.02])
def test_a_little_softness_is_no_reason(share):
    assert unfit(face(), blurred(share)) is None


def test_the_more_blur_the_higher_the_measure():
    measured = [face_blur(blurred(share), LANDMARKS) for share in (0, 0.02, 0.04, 0.065, 0.1)]
    assert measured == sorted(measured)
    assert measured[0] < MOST_BLUR - 0.1 < MOST_BLUR < measured[-1]


@pytest.mark.parametrize("small_px", [24, 32, 48])
def test_a_small_sharp_face_that_was_blown_up_is_soft_but_not_blurred(small_px):
    small, landmarks = resized(small_px)
    large = np.asarray(Image.fromarray(small).resize((small.shape[1] * 4, small.shape[0] * 4), Image.Resampling.BICUBIC))
    assert unfit(face(landmarks * 4), large) is None


def test_light_and_contrast_do_not_make_a_face_blurred():
    dim = (astronaut() * 0.3 + 20).astype(np.uint8)
    assert face_blur(dim, LANDMARKS) == pytest.approx(face_blur(astronaut(), LANDMARKS), abs=0.03)


def test_what_has_no_contrast_at_all_is_blurred():
    assert blur(np.full((20, 20), 90.0)) == 1


def test_motion_blur_in_one_direction_counts():
    grey = np.random.default_rng(0).uniform(0, 255, (40, 40))
    moved = np.mean([np.roll(grey, k, axis=1) for k in range(9)], axis=0)
    assert blur(moved) == blur(moved.T) > blur(grey) + 0.1


def test_the_measure_ranks_pictures_as_scikit_image_does():
    pictures = [
        np.asarray(Image.fromarray(blurred(share)).convert("L"), dtype=float)[60:200, 150:290] for share in (0, 0.01, 0.02, 0.03, 0.05)
    ]
    ours, theirs = [blur(picture) for picture in pictures], [blur_effect(picture, h_size=7) for picture in pictures]
    assert np.corrcoef(ours, theirs)[0, 1] > 0.95


@pytest.mark.parametrize("roll", [-120, -45, 30, 180])
def test_a_tilted_head_is_not_turned_away(roll):
    angle = np.radians(roll)
    spun = (LANDMARKS - 220) @ np.array(((np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle)))) + 220
    assert turn(spun.astype(np.float32)) == pytest.approx(turn(LANDMARKS), abs=1e-4)


@pytest.mark.parametrize(("nose_x", "reason"), [(240, None), (209, None), (253, "turned_away"), (196, "turned_away")])
def test_a_head_whose_nose_is_beyond_an_eye_is_turned_away(nose_x, reason):
    landmarks = LANDMARKS.copy()
    landmarks[2, 0] = nose_x
    assert unfit(face(landmarks), astronaut()) == reason


def test_landmarks_that_coincide_or_lie_outside_get_a_reason():
    assert unfit(face(np.full((5, 2), 100, np.float32)), astronaut()) == "too_small"
    assert unfit(face(LANDMARKS + 10_000), astronaut()) == "blurred"
