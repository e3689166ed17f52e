"""Display matrices against the definition: the pixel at (x, y) is shown at (a x + c y, b x + d y)."""

import numpy as np
import pytest

from services.preprocess.decode.orientation import Orientation

ONE = 1 << 16


def matrix(a, b, c, d):
    return np.array([a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30], np.int32).tobytes()


def shown_by_definition(rgb, a, b, c, d):
    height, width = rgb.shape[:2]
    places = {(a * x + c * y, b * x + d * y): rgb[y, x] for y in range(height) for x in range(width)}
    left, top = min(x for x, _ in places), min(y for _, y in places)
    shown = np.zeros((height, width, 3) if a else (width, height, 3), np.uint8)
    for (x, y), value in places.items():
        shown[y - top, x - left] = value
    return shown


@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
@pytest.mark.parametrize("turned", [False, True])
def test_all_eight_ways_to_hold_a_camera(signs, turned):
    entries = (0, signs[0], signs[1], 0) if turned else (signs[0], 0, 0, signs[1])
    rgb = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
    shown = Orientation.of(matrix(*entries)).apply(rgb)
    assert np.array_equal(shown, shown_by_definition(rgb, *entries))
    assert shown.flags.c_contiguous


@pytest.mark.parametrize(("entries", "degrees"), [((1, 0, 0, 1), 0), ((0, 1, -1, 0), 90), ((-1, 0, 0, -1), 180), ((0, -1, 1, 0), 270)])
def test_degrees_are_clockwise(entries, degrees):
    assert Orientation.of(matrix(*entries)).clockwise_degrees == degrees


def test_upright_says_that_nothing_is_to_be_done():
    assert Orientation.of(matrix(1, 0, 0, 1)).upright
    assert not Orientation.of(matrix(-1, 0, 0, 1)).upright
