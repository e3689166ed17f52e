"""The real detector on a real portrait, whose face was measured by hand."""

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut, coffee

from services.preprocess.faces.face import Face
from services.preprocess.faces.search import FaceDetector

BOX = (182, 72, 268, 178)
"""Cheek to cheek and hairline to chin, read off the enlarged portrait with a ruler."""
LANDMARKS = ((205, 101), (246, 103), (225, 128), (202, 139), (247, 140))
"""Eye, eye, tip of the nose, corner and corner of the mouth; left in the image first."""


pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def detector():
    return FaceDetector()


@pytest.fixture(scope="module")
def portrait():
    return astronaut()


def overlap(one, other):
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0, width) * max(0, height)
    return shared / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - shared)


def on_grey(portrait, *corners, size=(360, 640)):
    """The portrait's upper left part pasted on grey at each (x, y)."""
    frame = np.full((*size, 3), 90, np.uint8)
    for x, y in corners:
        frame[y : y + 250, x : x + 310] = portrait[:250, 60:370]
    return frame


def test_the_one_face_of_a_portrait(detector, portrait):
    (face,) = detector.detect([portrait])[0]
    assert overlap(face.box_xyxy, BOX) > 0.75
    assert face.confidence > 0.99
    assert face.landmarks_xy == pytest.approx(np.array(LANDMARKS), abs=4)


def test_landmarks_keep_their_order_in_a_mirror(detector, portrait):
    """Left means the image's left, whoever's eye it is."""
    (face,) = detector.detect([np.ascontiguousarray(portrait[:, ::-1])])[0]
    mirrored = [(511 - x, y) for x, y in LANDMARKS]
    assert face.landmarks_xy == pytest.approx(np.array([mirrored[place] for place in (1, 0, 2, 4, 3)]), abs=4)


@pytest.mark.parametrize(
    "frame", [coffee(), np.zeros((360, 640, 3), np.uint8), np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8)]
)
def test_no_face(detector, frame):
    assert detector.detect([frame]) == [[]]


def test_each_frame_of_a_batch_has_its_own_faces(detector, portrait):
    frames = [on_grey(portrait, *corners) for corners in ([(0, 0)], [], [(0, 50), (320, 20)], [(300, 90)])]
    assert [len(faces) for faces in detector.detect(frames)] == [1, 0, 2, 1]


def test_batches_do_not_change_the_answer(detector, portrait):
    frames = [on_grey(portrait, (k, k), size=(270, 330)) for k in range(18)]
    together, alone = detector.detect(frames), [detector.detect([frame])[0] for frame in (frames[0], frames[17])]
    for (one,), (other,) in zip((together[0], together[17]), alone, strict=True):
        assert one.box_xyxy == pytest.approx(other.box_xyxy, abs=0.05)
        assert one.landmarks_xy == pytest.approx(other.landmarks_xy, abs=0.05)


def test_large_frames_are_searched_small_and_answered_large(detector, portrait):
    large = np.asarray(Image.fromarray(portrait).resize((2048, 2048)))
    (face,) = detector.detect([large])[0]
    assert overlap(face.box_xyxy, np.array(BOX) * 4) > 0.75
    assert face.landmarks_xy == pytest.approx(np.array(LANDMARKS) * 4, abs=16)


def test_faces_smaller_than_asked_for_are_not_searched_for(detector, portrait):
    small = np.asarray(Image.fromarray(portrait).resize((128, 128)))  # the face is about 25 px high
    assert detector.detect([small], min_face_px=64) == [[]]
    assert len(detector.detect([small], min_face_px=20)[0]) == 1


def test_only_sure_faces_count(detector, portrait):
    assert detector.detect([portrait], min_confidence=1.01) == [[]]


def test_the_largest_faces_come_first_and_there_is_a_limit(detector, portrait):
    frame = np.zeros((360, 640, 3), np.uint8)
    frame[:250, :310] = portrait[:250, 60:370]
    frame[100:300, 350:598] = np.asarray(Image.fromarray(portrait[:250, 60:370]).resize((248, 200)))
    large, small = detector.detect([frame])[0]
    assert large.area_px > small.area_px
    (only,) = detector.detect([frame], max_faces=1)[0]
    assert only.box_xyxy == pytest.approx(large.box_xyxy)


@pytest.mark.parametrize("shape", [(1, 1, 3), (39, 39, 3), (10, 2000, 3), (40, 40, 3)])
def test_frames_too_small_for_a_face(detector, shape):
    assert detector.detect([np.zeros(shape, np.uint8)] * 2) == [[], []]


def test_no_frames(detector):
    assert detector.detect([]) == []


def test_frames_of_two_sizes_are_refused(detector):
    with pytest.raises(ValueError, match="100 x 100, not"):
        detector.detect([np.zeros((100, 100, 3), np.uint8), np.zeros((100, 101, 3), np.uint8)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"box_xyxy": np.zeros(3, np.float32)},
        {"landmarks_xy": np.zeros((2, 5), np.float32)},
        {"confidence": 1.1},
        {"box_xyxy": np.full(4, np.nan, np.float32)},
    ],
)
def test_a_face_checks_its_shape(wrong):
    right = {"box_xyxy": np.zeros(4, np.float32), "landmarks_xy": np.zeros((5, 2), np.float32), "confidence": 0.9}
    Face(**right)
    with pytest.raises(ValueError, match="a face is"):
        Face(**right | wrong)
