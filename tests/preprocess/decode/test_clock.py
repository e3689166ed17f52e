"""Times and sampling, as arithmetic: no decoder needed."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.preprocess.decode.clock import Clock, Sampler
from shared.errors import MediaTimestampsInvalid

MS = Fraction(1, 1000)


def times(clock, pts, duration=None):
    return [clock.tell_ms(value, duration) for value in pts]


def test_times_are_relative_to_the_first_frame():
    assert times(Clock(time_base=Fraction(1, 90_000), rate=None), [-9000, -5400, 0, 3600]) == [0, 40, 100, 140]


def test_rounding_does_not_add_up():
    clock = Clock(time_base=Fraction(1001, 30_000), rate=None)
    assert times(clock, range(30_001))[-1] == 1_001_000


def test_a_missing_timestamp_follows_by_the_frame_rate():
    assert times(Clock(time_base=MS, rate=Fraction(25)), [1000, None, 1080, None, None]) == [0, 40, 80, 120, 160]


def test_without_any_timestamp_the_frame_rate_is_the_clock():
    assert times(Clock(time_base=MS, rate=Fraction(25)), [None] * 4) == [0, 40, 80, 120]


def test_a_late_first_timestamp_continues_the_count():
    assert times(Clock(time_base=MS, rate=Fraction(25)), [None, None, 90_000, 90_040]) == [0, 40, 80, 120]


def test_after_a_jump_back_time_goes_on():
    assert times(Clock(time_base=MS, rate=Fraction(25)), [0, 40, 80, 0, 40, 80]) == [0, 40, 80, 120, 160, 200]


def test_the_frames_own_duration_beats_the_nominal_one():
    assert times(Clock(time_base=MS, rate=Fraction(25)), [None] * 3, duration=50) == [0, 50, 100]


def test_no_clock_at_all():
    clock = Clock(time_base=MS, rate=None)
    assert clock.tell_ms(None, None) == 0
    with pytest.raises(MediaTimestampsInvalid):
        clock.tell_ms(None, None)


@pytest.mark.parametrize("time_base", [None, Fraction(0), Fraction(1)])
def test_a_time_base_that_cannot_tell_frames_apart(time_base):
    with pytest.raises(MediaTimestampsInvalid):
        Clock(time_base=time_base, rate=Fraction(1, 640))


def test_one_frame_per_second_may_count_in_seconds():
    assert times(Clock(time_base=Fraction(1), rate=Fraction(1)), [0, 1, 2]) == [0, 1000, 2000]


def test_the_end_includes_the_last_frame():
    clock = Clock(time_base=MS, rate=Fraction(25))
    times(clock, [0, 40, 80])
    assert clock.end_ms == 120


@pytest.mark.parametrize(
    ("pts", "irregular"),
    [([0, 40, 80, 120], False), ([0, 33, 67, 100, 133], False), ([0, 40, 80, 500], True), ([0, 16, 50, 66, 100], True), ([0], False)],
)
def test_variable_frame_rate(pts, irregular):
    clock = Clock(time_base=MS, rate=None)
    times(clock, pts)
    assert clock.irregular is irregular


@settings(deadline=None, max_examples=200)
@given(
    pts=st.lists(st.none() | st.integers(-(2**62), 2**62), max_size=40), rate=st.sampled_from([None, Fraction(25), Fraction(30_000, 1001)])
)
def test_time_never_stands_still_or_runs_back(pts, rate):
    clock = Clock(time_base=MS, rate=rate)
    try:
        told = times(clock, pts)
    except MediaTimestampsInvalid:
        assert rate is None
        return
    assert told == sorted(set(told))
    assert told[:1] in ([], [0])


def sampled(pts_ms, sample_fps):
    sampler = Sampler(sample_fps)
    return [pts for pts in pts_ms if sampler.wants(pts)]


def test_the_first_frame_at_or_after_each_tick():
    assert sampled(range(0, 1000, 40), 8) == [0, 160, 280, 400, 520, 640, 760, 880]


@pytest.mark.parametrize("fps", [24, 25, 29.97, 30, 50, 60])
def test_at_its_own_rate_a_video_is_taken_frame_by_frame(fps):
    pts_ms = [round(k * 1000 / fps) for k in range(200)]
    assert sampled(pts_ms, fps) == pts_ms


def test_a_slower_video_is_taken_frame_by_frame():
    assert sampled([0, 300, 600, 5000], 8) == [0, 300, 600, 5000]


def test_after_a_long_gap_missed_ticks_are_not_made_up_for():
    assert sampled([0, 10, 5000, 5010, 5020, 5125], 8) == [0, 5000, 5125]


@settings(deadline=None)
@given(gaps=st.lists(st.integers(1, 500), max_size=60), sample_fps=st.floats(0.1, 60))
def test_no_more_than_asked_for_and_no_tick_missed(gaps, sample_fps):
    pts_ms = [sum(gaps[:k]) for k in range(len(gaps) + 1)]
    taken = sampled(pts_ms, sample_fps)
    assert taken[0] == 0
    assert len(taken) <= (pts_ms[-1] + 1) * sample_fps / 1000 + 1
    for pts in set(pts_ms) - set(taken):  # a frame left out shares its tick with one that was taken
        before = max(other for other in taken if other < pts)
        assert pts - before < 1000 / sample_fps + 1


def test_a_rate_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        Sampler(0)
