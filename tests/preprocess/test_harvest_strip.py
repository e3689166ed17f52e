"""What is kept of one face, however long it is seen."""

import numpy as np
import pytest

from services.preprocess.faces.crop import Crop
from services.preprocess.harvest.strip import Strip, Strips


def crop(number: int, *, side: float = 0.5, track: int = 1) -> Crop:
    """A crop whose pixels tell its number."""
    tensor = np.zeros((9, 2, 2), np.uint8)
    tensor[0, 0] = divmod(number, 256)
    return Crop(track=track, frame=number, pts_ms=number * 125, box=(0.0, 0.0, side, side), tensor=tensor)


def strip_of(count: int, *, most: int) -> Strip:
    strip = Strip(crop(0), most=most)
    for number in range(1, count):
        strip.add(crop(number))
    return strip


def numbers(strip: Strip) -> list[int]:
    return [int(frame[0, 0, 0]) * 256 + int(frame[0, 0, 1]) for frame in strip.frames()]


@pytest.mark.parametrize("count", [1, 2, 3, 16, 17, 31, 32, 33, 34, 65, 100, 127, 128, 129, 1000, 14_400])
def test_from_the_first_to_the_last_evenly(count: int) -> None:
    kept = numbers(strip_of(count, most=16))
    assert len(kept) == min(16, count)
    assert (kept[0], kept[-1]) == (0, count - 1)
    if count > 1:
        wanted = np.linspace(0, count - 1, len(kept))
        assert np.diff(kept).min() > 0
        assert np.abs(kept - wanted).max() <= wanted[1] / 2


def test_memory_holds_twice_as_many_as_are_wanted() -> None:
    assert len(strip_of(14_400, most=16)._kept) <= 32


def test_a_strip_knows_how_much_of_the_video_is_its_face() -> None:
    strip = Strip(crop(0, side=0.5), most=4)
    strip.add(crop(1, side=0.1))
    assert strip.area == pytest.approx(0.26)
    assert (strip.sightings, strip.first.frame, strip.last.frame) == (2, 0, 1)


def test_a_strip_is_handed_out_when_its_face_has_gone() -> None:
    running = Strips(most=4, longest_ms=None)
    for number in range(100):
        assert list(running.add(crop(number, track=1 + number % 2))) == []
    assert [strip.first.track for strip in running.ended(followed=frozenset({2}))] == [1]
    assert list(running.ended(followed=frozenset({2}))) == []
    (rest,) = running.ended(followed=frozenset())
    assert (rest.first.frame, rest.last.frame, rest.sightings) == (1, 99, 50)


def test_a_strip_is_handed_out_when_it_is_long_enough() -> None:
    running = Strips(most=4, longest_ms=1000)
    full = [strip for number in range(20) for strip in running.add(crop(number))]
    assert [(strip.first.frame, strip.last.frame) for strip in (*full, *running.ended(followed=frozenset()))] == [(0, 7), (8, 15), (16, 19)]
