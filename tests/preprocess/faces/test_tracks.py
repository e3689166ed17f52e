"""Tracks over made-up boxes whose owners are known, and over the real detector's boxes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.data import astronaut

from services.preprocess.decode.video import open_video
from services.preprocess.faces.appearance import LENGTH, appearance
from services.preprocess.faces.face import Face
from services.preprocess.faces.search import FaceDetector
from services.preprocess.faces.tracks import LEAST_LIKENESS, Tracker, affinity
from tests.preprocess.faces.trajectories import LANDMARKS, PORTRAIT, SCENARIOS, followed, portrait

STEP_MS = 125
"""Eight samples a second."""


def box(x, y=100, side=60):
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


NOTHING_TO_SEE = np.full((360, 640, 3), 128, np.uint8)
"""Where all faces look the same, or like nothing: what is left is place and movement."""


def faces(boxes):
    return [Face(box_xyxy=np.array(box, np.float32), landmarks_xy=marked(*box), confidence=0.99) for box in boxes]


def marked(left, top, right, bottom):
    return (LANDMARKS * (right - left, bottom - top) + (left, top)).astype(np.float32)


def follow(frames, tracker=None, step_ms=STEP_MS, rgb_hwc=NOTHING_TO_SEE):
    tracker = tracker or Tracker()
    return [tracker.update(k * step_ms, faces(boxes), rgb_hwc) for k, boxes in enumerate(frames)]


def test_numbers_follow_the_first_appearance():
    assert follow([[], [box(500), box(100)], [box(300), box(100), box(500)]]) == [[], [1, 2], [3, 2, 1]]


def test_a_face_that_moves_keeps_its_number():
    """Half its width from sample to sample, then faster and faster, to four fifths."""
    steps = np.cumsum([30, 33, 36, 39, 42, 45, 48, 48, 48])
    assert follow([[box(x)] for x in steps]) == [[1]] * 9


def test_a_steady_face_may_be_faster_than_its_width_is_long():
    """By then the velocity is known."""
    steps = np.cumsum([30, 40, 50, 60, 70, 80])
    assert follow([[box(x)] for x in steps]) == [[1]] * 6


def test_a_face_that_comes_nearer_keeps_its_number():
    assert follow([[box(200, side=side)] for side in (40, 50, 65, 85, 110)]) == [[1]] * 5


def test_a_short_gap_is_bridged_along_the_way():
    moving = [[box(40 * k)] for k in range(12)]
    moving[5] = moving[6] = []
    assert follow(moving) == [[1]] * 5 + [[], []] + [[1]] * 5


def test_a_face_that_stops_while_out_of_sight_is_found_again():
    assert follow([[box(0)], [box(20)], [box(40)], [], [], [], [], [box(50)]])[-1] == [1]


def test_it_is_known_who_is_still_waited_for():
    tracker = Tracker(max_gap_ms=1000)
    follow([[box(100), box(500)], [box(100)]], tracker)
    assert tracker.followed == {1, 2}
    for step in range(2, 12):
        tracker.update(step * STEP_MS, faces([box(100)]), NOTHING_TO_SEE)
    assert tracker.followed == {1}


@pytest.mark.parametrize(("gap_ms", "number"), [(1000, 1), (1001, 2)])
def test_nobody_is_waited_for_longer_than_the_gap(gap_ms, number):
    tracker = Tracker(max_gap_ms=1000)
    tracker.update(0, faces([box(100)]), NOTHING_TO_SEE)
    for pts_ms in range(125, gap_ms - 125, 125):
        tracker.update(pts_ms, [], NOTHING_TO_SEE)
    assert tracker.update(gap_ms, faces([box(100)]), NOTHING_TO_SEE) == [number]


def test_samples_that_are_far_apart_are_still_one_track():
    tracker = Tracker(max_gap_ms=1000)
    assert [tracker.update(pts_ms, faces([box(100)]), NOTHING_TO_SEE) for pts_ms in (0, 2000, 4001, 6000)] == [[1]] * 4


def test_a_cut_to_somebody_elsewhere_begins_a_track():
    assert follow([[box(100)], [box(100)], [box(500)], [box(500)], [box(100)]]) == [[1], [1], [2], [2], [1]]


def test_a_cut_that_is_known_begins_tracks_for_all():
    tracker = Tracker()
    follow([[box(100), box(300)]] * 3, tracker)
    assert tracker.update(375, faces([box(100), box(300)]), NOTHING_TO_SEE, cut=True) == [3, 4]
    assert tracker.followed == {3, 4}


@pytest.mark.parametrize("fps", [4, 8])
@pytest.mark.parametrize("name", SCENARIOS)
def test_people_keep_their_tracks(name, fps):
    """Gaps, hiding, crossing, meeting and turning back, haste, uneven frames, a crowd of 32 and a cut, over real pixels."""
    score = followed(SCENARIOS[name], fps=fps, seed=1, tracker=Tracker())
    assert (score.idf1, score.switches) == (1, 0)


@pytest.mark.parametrize("name", ["crossing", "uneven", "fast"])
def test_boxes_may_jitter(name):
    score = followed(SCENARIOS[name], fps=8, seed=2, tracker=Tracker(), jitter=0.08)
    assert score.idf1 > 0.97


def test_looks_decide_who_is_who_after_a_crossing(monkeypatch):
    def switches():
        return sum(followed(SCENARIOS["crossing"], fps=16, seed=seed, tracker=Tracker()).switches for seed in range(2))

    assert switches() == 0
    monkeypatch.setattr("services.preprocess.faces.tracks.LIKENESS_GAIN", 0.0)
    assert switches() > 0, "place and movement leave the choice open"


def test_a_face_that_suddenly_looks_different_keeps_its_track():
    """Looks never speak against a match: somebody walks from the light into the dark."""
    lit = np.full((360, 640, 3), 90, np.uint8)
    lit[100 : 100 + PORTRAIT.height, 100 : 100 + PORTRAIT.width] = np.asarray(portrait(1))
    dark = np.random.default_rng(0).integers(0, 12, lit.shape, dtype=np.uint8)
    face = faces([(100, 100, 100 + PORTRAIT.width, 100 + PORTRAIT.height)])
    tracker = Tracker()
    assert [tracker.update(k * STEP_MS, face, lit if k % 2 else dark) for k in range(6)] == [[1]] * 6


def test_a_look_is_its_own_in_other_light_and_tells_two_people_apart():
    whole = marked(0, 0, PORTRAIT.width, PORTRAIT.height)
    one, other = (np.asarray(portrait(person)) for person in (1, 2))
    mine = appearance(one, whole)
    assert mine.shape == (LENGTH,)
    assert np.linalg.norm(mine) == pytest.approx(1)
    assert mine @ appearance(one // 2, whole) > 0.98
    assert mine @ appearance(other, whole) < LEAST_LIKENESS
    assert not appearance(np.full((200, 200, 3), 128, np.uint8), marked(50, 50, 150, 150)).any()
    assert np.isfinite(appearance(one, whole + 10_000)).all(), "a face may lie outside of its frame"


def test_two_faces_that_pass_each_other_keep_their_numbers():
    """They hide each other for two samples, where only the one in front is seen."""
    frames = [[box(100 + 40 * k), box(500 - 40 * k, y=105)] for k in range(11)]
    frames[5], frames[6] = frames[5][:1], frames[6][:1]
    numbers = follow(frames)
    assert numbers[:5] == [[1, 2]] * 5
    assert numbers[5:7] == [[1], [1]]
    assert numbers[7:] == [[1, 2]] * 4


def test_the_order_of_boxes_within_a_frame_does_not_matter():
    frames = [[box(100 + 10 * k), box(300 - 10 * k), box(500)] for k in range(8)]
    shuffled = [boxes if k % 2 == 0 else boxes[::-1] for k, boxes in enumerate(frames)]
    assert follow(shuffled) == [[1, 2, 3] if k % 2 == 0 else [3, 2, 1] for k in range(8)]


def test_neighbours_are_not_confused_by_one_who_disappears():
    frames = [[box(100), box(170), box(240)], [box(100), box(240)], [box(100), box(170), box(240)]]
    assert follow(frames) == [[1, 2, 3], [1, 3], [1, 2, 3]]


def test_boxes_without_area_do_no_harm():
    assert follow([[[5, 5, 5, 5], box(100)], [[5, 5, 5, 5], box(100)]])[1][1] == 2


coordinates = st.floats(-1000, 3000, width=32)
boxes = st.tuples(coordinates, coordinates, st.floats(1, 900, width=32), st.floats(1, 900, width=32)).map(
    lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
)


@settings(deadline=None)
@given(st.lists(st.lists(boxes, max_size=6), max_size=8))
def test_no_number_twice_in_a_frame_and_none_is_left_out(frames):
    numbers = follow(frames)
    assert [len(each) for each in numbers] == [len(each) for each in frames]
    assert all(len(set(each)) == len(each) for each in numbers)
    firsts = list(dict.fromkeys(number for each in numbers for number in each))
    assert firsts == list(range(1, len(firsts) + 1))
    assert follow(frames) == numbers


@settings(deadline=None)
@given(boxes, boxes)
def test_affinity_is_symmetric_and_bounded(one, other):
    forth, back = (affinity(np.array([a], float), np.array([b], float))[0, 0] for a, b in ((one, other), (other, one)))
    assert forth == pytest.approx(back)
    assert -1 <= forth <= 1 + 1e-9
    assert affinity(np.array([one], float), np.array([one], float))[0, 0] == pytest.approx(1)


def test_affinity_of_boxes_side_by_side_and_far_apart():
    ours = np.array([box(0)], float)
    theirs = np.array([box(0), box(30), box(60), box(6000)], float)
    assert affinity(ours, theirs)[0] == pytest.approx([1, 1 / 3 - 1 / 13, -1 / 5, -1], abs=0.03)


@pytest.mark.usefixtures("one_torch_thread")
def test_two_real_faces_keep_their_tracks_from_file_to_number(clips):
    """The portrait twice, side by side, each moving its own way; the one on the right is covered for half a second."""
    face = astronaut()[20:220, 140:310]

    def picture(k):
        frame = np.full((240, 640, 3), 90, np.uint8)
        frame[20 + k // 4 : 220 + k // 4, 2 * k : 170 + 2 * k] = face
        if not 20 <= k < 32:
            frame[20:220, 470 - 2 * k : 640 - 2 * k] = face[:, ::-1]
        return frame

    detector, tracker = FaceDetector(), Tracker()
    with open_video(clips.write(picture=picture, frames=50, fps=25)) as video:
        frames = list(video.frames(4))
    numbers = []
    for frame, found in zip(frames, detector.detect([frame.rgb_hwc for frame in frames]), strict=True):
        left_first = sorted(found, key=lambda each: each.box_xyxy[0])
        numbers.append(tracker.update(frame.pts_ms, left_first, frame.rgb_hwc))
    assert numbers == [[1] if 800 <= frame.pts_ms < 1280 else [1, 2] for frame in frames]
