"""The search through a video, on pictures made of real portraits."""

import numpy as np
import pytest
from skimage.data import astronaut

from services.preprocess.search import FaceDetector, smallest_face_px

pytestmark = pytest.mark.usefixtures("one_torch_thread")

FACE = astronaut()[:250, 60:370]
SIZE = (640, 360)


@pytest.fixture(scope="module")
def detector():
    return FaceDetector()


def with_faces(*corners):
    """The portrait pasted on grey at each (x, y)."""
    frame = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    for x, y in corners:
        frame[y : y + 250, x : x + 310] = FACE
    return frame


def lefts(seen):
    return [round(float(face.box_xyxy[0])) for face in seen.faces]


def test_the_first_frame_is_scanned_and_the_rest_followed(detector):
    frames = [with_faces((4 * index, 20)) for index in range(5)]
    seen = detector.searching(frame_size=SIZE).look(frames, [40 * index for index in range(5)])
    assert [each.scanned for each in seen] == [True, False, False, False, False]
    assert not any(each.cut for each in seen)
    assert [left - lefts(seen[0])[0] for (left,) in map(lefts, seen)] == pytest.approx([0, 4, 8, 12, 16], abs=6)


def test_batches_make_no_difference(detector):
    frames, times = [with_faces((4 * index, 20)) for index in range(6)], [125 * index for index in range(6)]
    at_once = detector.searching(frame_size=SIZE).look(frames, times)
    search = detector.searching(frame_size=SIZE)
    one_by_one = [search.look([frame], [at_ms])[0] for frame, at_ms in zip(frames, times, strict=True)]
    assert [each.scanned for each in one_by_one] == [each.scanned for each in at_once]
    assert list(map(lefts, one_by_one)) == list(map(lefts, at_once))


def test_no_frames(detector):
    assert detector.searching(frame_size=SIZE).look([], []) == []


def test_frames_of_another_size_are_refused(detector):
    with pytest.raises(ValueError, match="640 x 360"):
        detector.searching(frame_size=SIZE).look([np.zeros((100, 100, 3), np.uint8)], [0])


@pytest.mark.parametrize(("size", "smallest"), [((320, 240), 24), ((640, 360), 40), ((1080, 1920), 120)])
def test_the_smallest_face_when_nobody_says(size, smallest):
    assert smallest_face_px(size) == smallest
