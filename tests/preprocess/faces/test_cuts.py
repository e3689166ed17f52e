"""Cuts in clips made of real photographs, and none where the picture only moves."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.data import astronaut, chelsea, coffee

from services.preprocess.decode.frames import Frame
from services.preprocess.decode.video import open_video
from services.preprocess.faces.cuts import Cuts

SIZE = (640, 360)
REAL_CLIPS = Path(__file__).parents[4] / "shared" / "data"
EVERY_MS = 125


def view(photograph, *, left=0.2, top=0.2, share=0.6):
    """A part of the photograph: its corner in fractions of it, and its width as a share."""
    image = Image.fromarray(photograph)
    width = share * image.width
    corner = left * image.width, top * image.height
    box = (*corner, corner[0] + width, corner[1] + width * SIZE[1] / SIZE[0])
    return np.asarray(image.transform(SIZE, Image.Transform.EXTENT, box, Image.Resampling.BILINEAR))


def brightness(picture, factor, plus=0):
    return np.clip(picture * float(factor) + plus, 0, 255).astype(np.uint8)


def mixed(one, other, share):
    return (one * (1 - share) + other * share).astype(np.uint8)


def sampled(pictures, *, every_ms=EVERY_MS):
    return [Frame(pts_ms=every_ms * index, rgb_hwc=picture) for index, picture in enumerate(pictures)]


def cuts(pictures, *, every_ms=EVERY_MS):
    found = Cuts().among(sampled(pictures, every_ms=every_ms))
    return [index for index, cut in enumerate(found) if cut]


def cuts_in_batches(pictures, times, sizes):
    """Which frames begin a shot when they are watched so many at a time, the last size again and again."""
    watching, found, sizes = Cuts(), [], iter(sizes)
    frames = [Frame(pts_ms=at_ms, rgb_hwc=picture) for picture, at_ms in zip(pictures, times, strict=True)]
    size = next(sizes)
    while (begin := len(found)) < len(frames):
        end = begin + size
        found += watching.among(frames[begin:end], following=frames[end] if end < len(frames) else None)
        size = next(sizes, size)
    return [index for index, cut in enumerate(found) if cut]


@pytest.mark.parametrize(("one", "other"), [(astronaut, coffee), (coffee, chelsea), (chelsea, astronaut)])
def test_a_cut(one, other):
    assert cuts([view(one())] * 3 + [view(other())] * 3) == [3]


def test_a_cut_within_a_moving_picture():
    pan = [view(coffee(), left=0.05 * index) for index in range(5)]
    assert cuts([*pan, *(view(astronaut(), left=0.02 * index) for index in range(5))]) == [5]


@pytest.mark.parametrize("step", [0.02, 0.1, 0.18])
@pytest.mark.parametrize("photograph", [astronaut, coffee, chelsea])
def test_a_pan_is_no_cut(photograph, step):
    steps = int(0.4 / step) + 1
    assert cuts([view(photograph(), left=step * index) for index in range(steps)]) == []


def test_a_zoom_is_no_cut():
    assert cuts([view(astronaut(), share=0.75 * 0.85**index) for index in range(6)]) == []


@pytest.mark.parametrize("steps", [8, 16])
def test_a_slow_fade_is_no_cut(steps):
    one, other = view(astronaut()), view(chelsea())
    assert cuts([mixed(one, other, index / steps) for index in range(steps + 1)]) == []


def test_a_fade_through_black_is_one_cut():
    one, other = view(astronaut()), view(coffee())
    down = [brightness(one, share) for share in (1, 0.75, 0.5, 0.25, 0)]
    up = [brightness(other, share) for share in (0, 0.25, 0.5, 0.75, 1)]
    (begins,) = cuts(down + up)
    assert begins > len(down), "a black frame begins nothing"


def test_light_that_is_switched_is_no_cut():
    assert cuts([brightness(view(coffee()), factor) for factor in (1, 0.3, 0.3, 1, 1.4)]) == []


@pytest.mark.parametrize("flash", [np.full((360, 640, 3), 255, np.uint8), brightness(view(chelsea()), 1, 90), view(coffee())])
def test_one_frame_of_something_else_is_no_cut(flash):
    still = view(chelsea())
    assert cuts([still, still, flash, still, still]) == []


CAT, CUP = view(chelsea()), view(coffee())
SHOWN = [CAT, view(chelsea(), left=0.25), CUP, view(astronaut()), np.zeros_like(CAT), np.full_like(CAT, 255)]


@pytest.mark.parametrize("size", range(1, 17))
def test_a_flash_is_no_cut_wherever_in_a_batch_it_is(size):
    for place in range(1, size + 1):
        pictures = [CUP if index == place else CAT for index in range(size + 2)]
        assert cuts_in_batches(pictures, range(0, 100 * len(pictures), 100), [size]) == []


@pytest.mark.parametrize("size", range(1, 17))
def test_a_cut_is_one_wherever_in_a_batch_it_is(size):
    for place in range(1, size + 1):
        pictures = [CAT] * place + [CUP] * (size + 2 - place)
        assert cuts_in_batches(pictures, range(0, 100 * len(pictures), 100), [size]) == [place]


@settings(deadline=None, max_examples=50)
@given(
    pictures=st.lists(st.sampled_from(SHOWN), min_size=1, max_size=20),
    steps_ms=st.lists(st.sampled_from([20, 100, 200, 500]), min_size=20, max_size=20),
    sizes=st.lists(st.integers(1, 16), min_size=1, max_size=20),
)
def test_batches_make_no_difference_to_cuts(pictures, steps_ms, sizes):
    times = [sum(steps_ms[:index]) for index in range(len(pictures))]
    assert cuts_in_batches(pictures, times, sizes) == cuts_in_batches(pictures, times, [len(pictures)])


def test_a_flash_that_nothing_follows_is_a_cut():
    """The video may have ended with a new shot."""
    assert cuts([view(chelsea()), view(chelsea()), view(coffee())]) == [2]


def test_a_shot_of_one_sample_is_a_shot_where_samples_are_far_apart():
    assert cuts([view(chelsea()), view(coffee()), view(chelsea())], every_ms=1000) == [1, 2]


def test_noise_is_no_cut():
    random, still = np.random.default_rng(0), view(astronaut())
    noisy = [np.clip(still + random.normal(0, 30, still.shape), 0, 255).astype(np.uint8) for _ in range(6)]
    assert cuts(noisy) == []


def test_somebody_who_walks_by_is_no_cut():
    frames = []
    for left in range(-200, 640, 120):
        frame, person = view(coffee()).copy(), view(astronaut())[:, 200:440]
        shown = slice(max(0, left), min(640, left + 240))
        frame[:, shown] = person[:, shown.start - left : shown.stop - left]
        frames.append(frame)
    assert cuts(frames) == []


@pytest.mark.parametrize("size", [(1, 1), (2, 500), (500, 2), (40, 30)])
def test_any_size(size):
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(3)]
    assert Cuts().among(sampled([pictures[0], pictures[0]])) == [False, False]
    assert len(Cuts().among(sampled(pictures))) == 3


@pytest.mark.parametrize("name", ["single_face.mp4", "no_face.mp4"])
@pytest.mark.parametrize("fps", [1, 8])
def test_a_real_clip_of_one_shot(name, fps):
    if not (REAL_CLIPS / name).exists():
        pytest.skip("the real clips are not part of the project")
    with open_video(REAL_CLIPS / name) as source:
        frames = list(source.frames(fps))
    assert not any(Cuts().among(frames))
