"""The search through a video, on pictures made of real portraits."""

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut, coffee

from services.preprocess.decode.frames import Frame
from services.preprocess.faces.search import FaceDetector, Schedule, smallest_face_px

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


def scenery():
    return np.asarray(Image.fromarray(coffee()).resize(SIZE))


def sampled(pictures, times):
    return [Frame(pts_ms=at_ms, rgb_hwc=picture) for picture, at_ms in zip(pictures, times, strict=True)]


def lefts(seen):
    return [round(float(face.box_xyxy[0])) for face in seen.faces]


def test_the_first_frame_is_scanned_and_the_rest_followed(detector):
    frames = [with_faces((4 * index, 20)) for index in range(5)]
    seen = detector.searching(frame_size=SIZE).look(sampled(frames, [40 * index for index in range(5)]))
    assert [each.scanned for each in seen] == [True, False, False, False, False]
    assert all(0.7 <= face.confidence <= 1 for each in seen for face in each.faces)
    assert not any(each.cut for each in seen)
    assert [left - lefts(seen[0])[0] for (left,) in map(lefts, seen)] == pytest.approx([0, 4, 8, 12, 16], abs=6)


def test_batches_make_no_difference_to_a_face_that_is_always_there(detector):
    frames, times = [with_faces((4 * index, 20)) for index in range(6)], [125 * index for index in range(6)]
    at_once = detector.searching(frame_size=SIZE).look(sampled(frames, times))
    search = detector.searching(frame_size=SIZE)
    one_by_one = [search.look(sampled([frame], [at_ms]))[0] for frame, at_ms in zip(frames, times, strict=True)]
    for ours, theirs in zip(at_once, one_by_one, strict=True):
        assert lefts(ours) == pytest.approx(lefts(theirs), abs=6)


@pytest.mark.parametrize(("batch", "seen_from"), [(1, 2), (2, 2), (3, 1), (12, 1)])
def test_small_batches_see_a_little_later_who_enters(batch, seen_from):
    """Large frames come a few at a time, and nobody is followed back over the edge of a batch; but its last frame is scanned early."""
    frames = [with_faces((0, 20))] + [with_faces((0, 20), (320, 20))] * 11
    times = [125 * index for index in range(12)]
    search = FaceDetector(schedule=Schedule(every_ms=500, every_frames=99)).searching(frame_size=SIZE)
    parts = [slice(start, start + batch) for start in range(0, 12, batch)]
    faces = [len(seen.faces) for part in parts for seen in search.look(sampled(frames[part], times[part]))]
    assert faces == [1] * seen_from + [2] * (12 - seen_from)


@pytest.mark.parametrize(
    ("schedule", "scanned"),
    [
        (Schedule(every_ms=400, every_frames=99), [0, 4, 8]),
        (Schedule(every_ms=350, every_frames=99), [0, 4, 8]),
        (Schedule(every_ms=9999, every_frames=3), [0, 3, 6, 9]),
        (Schedule(every_ms=9999, every_frames=6), [0, 6, 9]),  # the last frame of a batch early
        (Schedule(every_ms=9999, every_frames=99), [0]),
    ],
)
def test_scans_come_every_so_often(schedule, scanned):
    search = FaceDetector(schedule=schedule).searching(frame_size=SIZE)
    seen = search.look(sampled([with_faces((100, 20))] * 10, [100 * index for index in range(10)]))
    assert [index for index, each in enumerate(seen) if each.scanned] == scanned


def test_a_cut_is_scanned(detector):
    shots = [with_faces((0, 20))] * 3 + [scenery()] * 3
    seen = detector.searching(frame_size=SIZE).look(sampled(shots, [40 * index for index in range(6)]))
    assert [each.cut for each in seen] == [False, False, False, True, False, False]
    assert seen[3].scanned
    assert [len(each.faces) for each in seen] == [1, 1, 1, 0, 0, 0]


def test_a_face_that_is_lost_is_searched_for(detector):
    """It jumps to the other side: too far to be followed, and found in the same frame all the same."""
    frames = [with_faces((0, 20))] * 3 + [with_faces((320, 100))] * 5
    seen = detector.searching(frame_size=SIZE).look(sampled(frames, [20 * index for index in range(8)]))
    assert all(len(each.faces) == 1 for each in seen)
    assert seen[3].scanned
    assert not seen[2].scanned


def test_after_a_loss_it_is_searched_for_again_soon():
    gone = np.full_like(with_faces(), 90)
    gone[:, ::40] = 0  # something to see, but no face
    frames = [with_faces((100, 20))] * 2 + [gone] * 6
    search = FaceDetector(schedule=Schedule(every_frames=99)).searching(frame_size=SIZE)
    seen = search.look(sampled(frames, [20 * index for index in range(8)]))
    assert [index for index, each in enumerate(seen) if each.scanned] == [0, 2, 3, 4]


def test_a_face_that_a_scan_finds_is_followed_back_to_when_it_came(detector):
    frames = [with_faces((0, 20))] * 2 + [with_faces((0, 20), (320, 20 + 3 * index)) for index in range(5)]
    search = FaceDetector(schedule=Schedule(every_frames=6)).searching(frame_size=SIZE)
    seen = search.look(sampled(frames, [20 * index for index in range(7)]))
    assert [index for index, each in enumerate(seen) if each.scanned] == [0, 6]
    assert [len(each.faces) for each in seen] == [1, 1, 2, 2, 2, 2, 2]


def test_the_largest_faces_come_first_and_the_rest_is_counted(detector):
    frame = with_faces((0, 20))
    frame[100:300, 350:598] = np.asarray(Image.fromarray(FACE).resize((248, 200)))
    (both,) = detector.searching(frame_size=SIZE).look(sampled([frame], [0]))
    (one,) = detector.searching(frame_size=SIZE, max_faces=1).look(sampled([frame], [0]))
    assert both.faces[0].area_px > both.faces[1].area_px
    assert (len(both.faces), both.more) == (2, 0)
    assert (len(one.faces), one.more) == (1, 1)
    assert one.faces[0].box_xyxy == pytest.approx(both.faces[0].box_xyxy)


def test_faces_are_followed_whose_number_is_not_shown(detector):
    """The limit is on what is handed out: the smaller face takes over when the larger one has gone."""
    frame = with_faces((0, 20))
    frame[100:300, 350:598] = np.asarray(Image.fromarray(FACE).resize((248, 200)))
    alone = frame.copy()
    alone[:, :310] = 90
    seen = detector.searching(frame_size=SIZE, max_faces=1).look(sampled([frame, frame, alone], [0, 20, 40]))
    assert [left > 320 for (left,) in map(lefts, seen)] == [False, False, True]


def test_small_faces_are_searched_for_where_asked(detector):
    small = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    small[100:160, 100:175] = np.asarray(Image.fromarray(FACE).resize((75, 60)))  # the face is about 25 px high
    assert detector.searching(frame_size=SIZE, min_face_px=64).look(sampled([small], [0]))[0].faces == ()
    assert len(detector.searching(frame_size=SIZE, min_face_px=20).look(sampled([small], [0]))[0].faces) == 1


def test_faces_of_a_large_frame_are_in_its_pixels(detector):
    large = np.asarray(Image.fromarray(astronaut()).resize((2048, 2048)))
    ((face,),) = detector.detect([large])
    ((small,),) = detector.detect([astronaut()])
    assert face.box_xyxy == pytest.approx(small.box_xyxy * 4, abs=30)
    assert face.landmarks_xy == pytest.approx(small.landmarks_xy * 4, abs=16)


@pytest.mark.parametrize("size", [(1, 1), (39, 39), (10, 2000)])
def test_frames_in_which_no_face_fits(detector, size):
    frames = [np.zeros((*size, 3), np.uint8)] * 2
    assert [seen.faces for seen in detector.searching(frame_size=size[::-1]).look(sampled(frames, [0, 40]))] == [(), ()]


def test_stills_have_nothing_to_do_with_each_other(detector):
    stills = [with_faces((0, 20)), scenery(), with_faces((320, 100))]
    assert [len(faces) for faces in detector.detect(stills)] == [1, 0, 1]
    assert detector.detect([]) == []


def test_only_sure_faces_count_in_stills(detector):
    assert detector.detect([with_faces((0, 20))], min_confidence=1.1) == [[]]


def test_no_frames(detector):
    assert detector.searching(frame_size=SIZE).look([]) == []


def test_frames_of_another_size_are_refused(detector):
    with pytest.raises(ValueError, match="640 x 360"):
        detector.searching(frame_size=SIZE).look(sampled([np.zeros((100, 100, 3), np.uint8)], [0]))


@pytest.mark.parametrize(("size", "smallest"), [((320, 240), 24), ((640, 360), 40), ((1080, 1920), 120)])
def test_the_smallest_face_when_nobody_says(size, smallest):
    assert smallest_face_px(size) == smallest
