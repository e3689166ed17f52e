import numpy as np
import pytest

from services.preprocess.faces.boxes import Boxes, Located
from services.preprocess.faces.followed import Followed


def faces(*lefts, confidence=0.99, side=100):
    boxes = Boxes.in_one_frame(np.array([(left, 50, left + side, 50 + side) for left in lefts], np.float32).reshape(-1, 4))
    certain = Boxes(frames=boxes.frames, xyxy=boxes.xyxy, scores=np.full(len(boxes), confidence, np.float32))
    return Located(boxes=certain, landmarks_xy=np.zeros((len(boxes), 5, 2), np.float32))


def lefts(guesses):
    return guesses[:, 0].tolist()


def test_a_face_that_was_seen_once_may_go_anywhere():
    guesses = Followed.nobody().seen(faces(200), 0).guesses(40)
    assert lefts(guesses) == [200, 175, 225, 200, 200]
    assert guesses[:, 1].tolist() == [50, 50, 50, 30, 70]


def test_a_face_moves_on_as_it_moved():
    slow = Followed.nobody().seen(faces(200), 0).seen(faces(210), 40)
    assert lefts(slow.guesses(80)) == pytest.approx([220])
    assert lefts(slow.guesses(40)) == pytest.approx([210])


def test_one_that_moves_far_is_looked_for_where_it_was_too():
    fast = Followed.nobody().seen(faces(200), 0).seen(faces(240), 40)
    assert lefts(fast.guesses(80)) == pytest.approx([280, 240])


def test_time_may_run_backwards():
    before = Followed.nobody().seen(faces(200), 80).seen(faces(190), 40)
    assert lefts(before.guesses(0)) == pytest.approx([180])


def test_guesses_are_squares_of_the_longer_side():
    tall = Boxes.in_one_frame(np.array([[100, 100, 160, 200]], np.float32))
    first = Followed.nobody().seen(Located(boxes=tall, landmarks_xy=np.zeros((1, 5, 2), np.float32)), 0).guesses(40)[0]
    assert first.tolist() == [80, 100, 180, 200]


def test_nobody_is_anywhere():
    assert Followed.nobody().guesses(40).shape == (0, 4)
    assert not Followed.nobody().lost(faces(), least_confidence=0.9)
    assert not Followed.nobody().lost(faces(10), least_confidence=0.9)


@pytest.mark.parametrize(
    ("now", "lost"),
    [
        (faces(200, 400), False),
        (faces(250, 400), False),
        (faces(200), True),
        (faces(), True),
        (faces(290, 400), True),  # next to where it was: somebody else
    ],
)
def test_whether_one_is_lost(now, lost):
    assert Followed.nobody().seen(faces(200, 400), 0).lost(now, least_confidence=0.9) is lost


def test_two_faces_are_not_one():
    """One steps before the other: a single box cannot stand for both."""
    assert Followed.nobody().seen(faces(200, 250), 0).lost(faces(220), least_confidence=0.9)


def test_a_doubtful_face_is_not_missed():
    assert not Followed.nobody().seen(faces(200, confidence=0.8), 0).lost(faces(), least_confidence=0.9)
