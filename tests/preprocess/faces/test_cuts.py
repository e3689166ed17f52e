"""Cuts in clips made of real photographs, and none where the picture only moves."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut, chelsea, coffee

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


def cuts(pictures, *, every_ms=EVERY_MS):
    found = Cuts().among(pictures, [every_ms * index for index in range(len(pictures))])
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


def test_a_flash_at_the_end_of_a_batch_is_one_cut_at_most():
    """What follows is not known there, unlike in the middle of a batch: the only way in which batches make a difference."""
    watching, still, flash = Cuts(), view(chelsea()), view(coffee())
    assert watching.among([still, flash], [0, 100]) == [False, True]
    assert watching.among([still, still], [200, 300]) == [False, False]


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
    frames = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(3)]
    assert Cuts().among([frames[0], frames[0]], [0, 40]) == [False, False]
    assert len(Cuts().among(frames, [0, 40, 80])) == 3


@pytest.mark.parametrize("name", ["single_face.mp4", "no_face.mp4"])
@pytest.mark.parametrize("fps", [1, 8])
def test_a_real_clip_of_one_shot(name, fps):
    if not (REAL_CLIPS / name).exists():
        pytest.skip("the real clips are not part of the project")
    with open_video(REAL_CLIPS / name) as source:
        frames = list(source.frames(fps))
    assert not any(Cuts().among([frame.rgb_hwc for frame in frames], [frame.pts_ms for frame in frames]))
