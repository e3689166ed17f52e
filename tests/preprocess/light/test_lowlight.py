"""What counts as dark, what is done about it, and what is told of it."""

import numpy as np
import pytest
from skimage import data

from services.preprocess.light.brighten import WELL_LIT
from services.preprocess.light.lowlight import Lowlight
from services.preprocess.light.luminance import light, mean_luma
from shared.jobs import Enhance
from shared.results import Enhancement

CURVES = ["gamma", "equalise"]


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """A well lit face, 512 by 512."""
    return data.astronaut()


def dimmed(rgb_hwc: np.ndarray, factor: float) -> np.ndarray:
    return (rgb_hwc * factor).round().astype(np.uint8)


@pytest.mark.parametrize("method", CURVES)
def test_a_dark_frame_becomes_about_as_bright_as_a_well_lit_one(portrait: np.ndarray, method: str) -> None:
    brightening = Lowlight(method=method).brightening(Enhance.AUTO)
    dark = dimmed(portrait, 0.1)
    brighter = brightening.frame(dark)
    assert brighter.shape == dark.shape
    assert brighter.dtype == np.uint8
    assert mean_luma(brighter) == pytest.approx(WELL_LIT, abs=0.1)


def test_the_report_tells_frames_and_luminance_before_and_after(portrait: np.ndarray) -> None:
    brightening = Lowlight(method="gamma").brightening(Enhance.AUTO)
    darker, dark = dimmed(portrait, 0.05), dimmed(portrait, 0.15)
    brighter = [brightening.frame(each) for each in (darker, portrait, dark)]
    report = brightening.report()
    assert (report.asked, report.method, report.frames) == (Enhance.AUTO, "gamma", 2)
    assert report.luminance_before == pytest.approx((mean_luma(darker) + mean_luma(dark)) / 2, abs=1e-3)
    assert report.luminance_after == pytest.approx((mean_luma(brighter[0]) + mean_luma(brighter[2])) / 2, abs=1e-3)


def test_a_lit_frame_is_left_alone_and_not_even_copied(portrait: np.ndarray) -> None:
    brightening = Lowlight(method="gamma").brightening(Enhance.AUTO)
    same = brightening.frame(portrait)
    assert same is portrait
    assert brightening.report() == Enhancement(asked=Enhance.AUTO)


def test_a_lit_face_before_a_black_wall_is_not_dark(portrait: np.ndarray) -> None:
    wall = np.zeros((540, 960, 3), dtype=np.uint8)
    wall[100:400, 300:600] = portrait[:300, 100:400]
    assert mean_luma(wall) < 0.15
    same = Lowlight(method="gamma").brightening(Enhance.AUTO).frame(wall)
    assert same is wall


def test_a_lamp_does_not_make_a_dark_room_bright(portrait: np.ndarray) -> None:
    room = dimmed(portrait, 0.1)
    room[:60, :60] = 255
    assert light(room) < 0.2


def test_noise_does_not_make_a_dark_frame_bright() -> None:
    noisy = np.random.default_rng(1).normal(8, 12, size=(360, 640, 3)).clip(0, 255).astype(np.uint8)
    assert light(noisy) < 0.1


def test_a_dark_face_before_a_bright_window_is_brightened_where_it_is(portrait: np.ndarray) -> None:
    window = np.full((512, 900, 3), 230, dtype=np.uint8)
    window[100:400, 100:400] = dimmed(portrait, 0.1)[0:300, 80:380]
    kept, brightening = window.copy(), Lowlight(method="gamma").brightening(Enhance.AUTO)
    same = brightening.frame(window)
    assert same is window
    dark, lit = (175.0, 175.0, 325.0, 325.0), (600.0, 200.0, 700.0, 300.0)
    brighter = brightening.faces(window, np.array([dark, lit], dtype=np.float32))
    assert mean_luma(brighter[100:400, 100:400]) > 3 * mean_luma(window[100:400, 100:400])
    assert (brighter[:, 401:] == window[:, 401:]).all()
    assert (window == kept).all()
    assert brightening.report().frames == 1


@pytest.mark.parametrize("boxes", [[], [(600, 200, 700, 300)], [(-90, -90, -20, -20)], [(5, 5, 5, 5)]])
def test_a_frame_without_a_dark_face_is_the_very_same(portrait: np.ndarray, boxes: list[tuple[int, ...]]) -> None:
    frame = np.full((512, 900, 3), 200, dtype=np.uint8)
    brightening = Lowlight(method="gamma").brightening(Enhance.AUTO)
    assert brightening.faces(frame, np.array(boxes, dtype=np.float32).reshape(-1, 4)) is frame
    assert brightening.report().frames == 0


def test_always_means_every_frame_and_never_none(portrait: np.ndarray) -> None:
    dark = dimmed(portrait, 0.1)
    lowlight = Lowlight(method="equalise")
    always, never = lowlight.brightening(Enhance.ALWAYS), lowlight.brightening(Enhance.NEVER)
    for each in (portrait, dark):
        always.frame(each)
    assert always.report().frames == 2
    same = never.frame(dark)
    assert same is dark
    assert never.report() == Enhancement(asked=Enhance.NEVER)


def test_without_a_method_nothing_is_touched(portrait: np.ndarray) -> None:
    brightening = Lowlight(method="none").brightening(Enhance.ALWAYS)
    brightening.frame(dimmed(portrait, 0.1))
    assert brightening.report() == Enhancement(asked=Enhance.ALWAYS)


def test_one_video_is_not_told_about_another(portrait: np.ndarray) -> None:
    lowlight = Lowlight(method="gamma")
    first, second = lowlight.brightening(Enhance.AUTO), lowlight.brightening(Enhance.AUTO)
    first.frame(dimmed(portrait, 0.1))
    assert second.report().frames == 0


@pytest.mark.parametrize("method", CURVES)
@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 200, 3), (48, 48, 3), (1080, 1920, 3)])
@pytest.mark.parametrize("value", [0, 1, 255])
def test_any_picture_may_come(method: str, shape: tuple[int, ...], value: int) -> None:
    brighter = Lowlight(method=method).brightening(Enhance.ALWAYS).frame(np.full(shape, value, dtype=np.uint8))
    assert brighter.shape == shape
    assert brighter.dtype == np.uint8
