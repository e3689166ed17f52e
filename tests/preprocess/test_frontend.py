"""From frames to crops, with the real detector: whose place is whose, what is brightened, and how much is in memory."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pytest
from PIL import Image, ImageFilter
from skimage.data import astronaut, coffee

from services.preprocess import frontend
from services.preprocess.decode.frames import Frame
from services.preprocess.faces.crop import Crop
from services.preprocess.faces.search import FaceDetector
from services.preprocess.frontend import FRAMES_PER_BATCH, Batch, FrontEnd, ReadyFrame, in_batches
from services.preprocess.judge.sightings import Sightings
from services.preprocess.light.lowlight import Lowlight
from shared.jobs import MAX_FACES, Options

pytestmark = pytest.mark.usefixtures("one_torch_thread")

HEIGHT, WIDTH = 360, 640
PORTRAIT = Image.fromarray(astronaut()[:250, 60:370])
SIZE = 64


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


Front = Callable[..., tuple[FrontEnd, Sightings]]


@pytest.fixture
def front(detector: FaceDetector) -> Front:
    def make(*, method: str = "gamma", **options: object) -> tuple[FrontEnd, Sightings]:
        sightings = Sightings()
        made = FrontEnd(
            detector=detector,
            lowlight=Lowlight(method=method),
            options=Options.model_validate(options),
            size=SIZE,
            sightings=sightings,
        )
        return made, sightings

    return make


def scene(*portraits: tuple[Image.Image, tuple[int, int]], grey: int = 150) -> np.ndarray:
    """Portraits, each with its left upper corner, on a wall."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), (grey, grey, grey))
    for portrait, corner in portraits:
        picture.paste(portrait, corner)
    return np.asarray(picture)


def video(picture: np.ndarray, *, frames: int = 3) -> list[Frame]:
    return [Frame(pts_ms=125 * index, rgb_hwc=picture) for index in range(frames)]


def crops(front: FrontEnd, frames: Sequence[Frame]) -> list[Crop]:
    return [crop for batch in front.batches(frames) for of_frame in front.crops(batch) for crop in of_frame]


LARGE_BLURRED = (PORTRAIT.filter(ImageFilter.GaussianBlur(7)), (0, 20))
SMALL_SHARP = (PORTRAIT.resize((248, 200)), (350, 100))


def test_a_face_that_cannot_be_judged_takes_nobodys_place(front: Front) -> None:
    one, sightings = front(max_faces=1)
    found = crops(one, video(scene(LARGE_BLURRED, SMALL_SHARP)))
    assert len(found) == 3
    assert all(crop.box[0] > 0.5 for crop in found), "the sharp one"
    assert dict(+sightings.dropped) == {"blurred": 3}
    assert sightings.warnings() == ()
    assert sightings.coverage().faces_found == 6


def test_the_largest_of_those_that_can_be_judged_are(front: Front) -> None:
    one, sightings = front(max_faces=1)
    found = crops(one, video(scene((PORTRAIT, (0, 20)), SMALL_SHARP)))
    assert all(crop.box[0] < 0.5 for crop in found)
    assert dict(+sightings.dropped) == {"too_many": 3}
    assert sightings.warnings() == ("faces-truncated",)


def test_32_faces_of_a_crowd_are_followed_and_the_rest_counted(front: Front) -> None:
    """The ten rows further back are smaller, and nobody's place changes."""
    large, small = PORTRAIT.resize((160, 129)), PORTRAIT.resize((128, 103))
    crowd = Image.new("RGB", (1280, 720), (150, 150, 150))
    for index in range(MAX_FACES):
        crowd.paste(large, (160 * (index % 8), 130 * (index // 8)))
    for index in range(10):
        crowd.paste(small, (128 * index, 590))
    one, sightings = front(min_face=30)
    found = crops(one, video(np.asarray(crowd)))
    assert Counter(crop.frame for crop in found) == {0: MAX_FACES, 1: MAX_FACES, 2: MAX_FACES}
    assert Counter(crop.track for crop in found) == dict.fromkeys(range(1, MAX_FACES + 1), 3)
    assert all(crop.box[3] < 590 / 720 for crop in found)
    assert dict(+sightings.dropped) == {"too_many": 3 * 10}
    assert sightings.coverage().faces_found == 3 * (MAX_FACES + 10)
    assert sightings.warnings() == ("faces-truncated",)


def test_a_lit_frame_is_brightened_once_where_every_one_is(front: Front) -> None:
    """Gamma leaves it as it is: it has been brightened all the same, and its face is not brightened once more."""
    always, _ = front(enhance="always")
    assert len(crops(always, video(scene((PORTRAIT, (100, 20)), grey=250)))) == 3
    assert always.enhancement().frames == 3


def test_a_face_in_the_shade_is_brightened_in_a_frame_that_is_not(front: Front) -> None:
    shade = Image.fromarray((np.asarray(PORTRAIT) * 0.25).astype(np.uint8))
    frames = video(scene((shade, (100, 20)), grey=230))
    (auto, _), (never, _) = front(), front(enhance="never")
    lit, dark = crops(auto, frames), crops(never, frames)
    assert (auto.enhancement().frames, never.enhancement().frames) == (3, 0)
    assert lit[0].tensor.mean() > 1.5 * dark[0].tensor.mean()
    np.testing.assert_array_equal(frames[0].rgb_hwc, scene((shade, (100, 20)), grey=230))


def test_a_frame_in_the_light_is_left_alone(front: Front) -> None:
    auto, _ = front()
    crops(auto, video(scene((PORTRAIT, (100, 20)), grey=200)))
    assert auto.enhancement().frames == 0


def test_a_batch_is_so_many_frames() -> None:
    frames = black(2 * FRAMES_PER_BATCH + 1)
    batches = list(in_batches(frames))
    assert sizes_of(batches) == [FRAMES_PER_BATCH, FRAMES_PER_BATCH, 1]
    assert [frame for batch in batches for frame in batch.frames] == frames
    assert list(in_batches([])) == []


def test_a_batch_knows_what_follows_it() -> None:
    batches = list(in_batches(black(2 * FRAMES_PER_BATCH)))
    assert [batch.following for batch in batches] == [batches[1].frames[0], None]


def test_one_frame_is_read_ahead_and_no_more() -> None:
    frames = iter(black(3 * FRAMES_PER_BATCH))
    next(in_batches(frames))
    assert len(list(frames)) == 2 * FRAMES_PER_BATCH - 1


@pytest.mark.parametrize(("most_bytes", "sizes"), [(12, [1, 1, 1, 1, 1]), (13, [2, 2, 1]), (36, [3, 2]), (1, [1, 1, 1, 1, 1])])
def test_a_batch_of_large_frames_is_so_many_bytes(monkeypatch: pytest.MonkeyPatch, most_bytes: int, sizes: list[int]) -> None:
    """A frame is 12 bytes; it is in a batch, however large it is."""
    monkeypatch.setattr(frontend, "BYTES_PER_BATCH", most_bytes)
    assert sizes_of(in_batches(black(5))) == sizes


def black(count: int) -> list[ReadyFrame]:
    return [
        ReadyFrame(pts_ms=frame.pts_ms, rgb_hwc=frame.rgb_hwc, brightened=False)
        for frame in video(np.zeros((2, 2, 3), np.uint8), frames=count)
    ]


def sizes_of(batches: Iterable[Batch]) -> list[int]:
    return [len(batch.frames) for batch in batches]


SIZES_AND_PLACES = [(size, place) for size in (1, 2, 3, 7, FRAMES_PER_BATCH) for place in (size - 1, size) if place]
"""Of batches, and of a frame: the last of the first batch or the first of the second."""


@pytest.mark.parametrize(("size", "place"), SIZES_AND_PLACES)
def test_a_flash_ends_no_track_wherever_in_a_batch_it_is(front: Front, monkeypatch: pytest.MonkeyPatch, size: int, place: int) -> None:
    monkeypatch.setattr(frontend, "FRAMES_PER_BATCH", size)
    still, flash = scene((PORTRAIT, (100, 20))), np.asarray(Image.fromarray(coffee()).resize((WIDTH, HEIGHT)))
    one, _ = front(min_face=60)
    found = crops(one, [Frame(pts_ms=125 * index, rgb_hwc=flash if index == place else still) for index in range(size + 3)])
    assert [(crop.frame, crop.track) for crop in found] == [(index, 1) for index in range(size + 3) if index != place]


@pytest.mark.parametrize(("size", "place"), SIZES_AND_PLACES)
def test_a_cut_ends_a_track_wherever_in_a_batch_it_is(front: Front, monkeypatch: pytest.MonkeyPatch, size: int, place: int) -> None:
    """The same face in the same place, before something else."""
    monkeypatch.setattr(frontend, "FRAMES_PER_BATCH", size)
    small, other = PORTRAIT.resize((186, 150)), Image.fromarray(coffee()).resize((WIDTH, HEIGHT))
    other.paste(small, (100, 20))
    one, _ = front(min_face=40)
    pictures = [scene((small, (100, 20)))] * place + [np.asarray(other)] * (size + 3 - place)
    found = crops(one, [Frame(pts_ms=125 * index, rgb_hwc=picture) for index, picture in enumerate(pictures)])
    assert [(crop.frame, crop.track) for crop in found] == [(index, 1 if index < place else 2) for index in range(size + 3)]
