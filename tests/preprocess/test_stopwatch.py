"""Where the time goes and how much is left, with a clock that the test turns."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from services.preprocess import stopwatch
from services.preprocess.stopwatch import Stopwatch
from shared.jobs import Progress, Stage


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Turns the clock by so many seconds."""
    seconds = [100.0]

    class Clock:
        monotonic = staticmethod(lambda: seconds[0])
        time_ns = staticmethod(lambda: round(seconds[0] * 1e9))

    monkeypatch.setattr(stopwatch, "time", Clock)

    def turn(by_s: float) -> None:
        seconds[0] += by_s

    return turn


def test_the_rest_takes_as_long_for_each_frame_as_what_is_done(clock: Callable[[float], None]) -> None:
    watch = Stopwatch()
    clock(6)
    assert watch.progress(done=30, expected=120) == Progress(
        stage=Stage.ANALYSING, frames_done=30, frames_total=120, percent=25, seconds_left=18
    )


def test_before_anything_is_done_nobody_knows_how_long_it_takes(clock: Callable[[float], None]) -> None:
    watch = Stopwatch()
    clock(6)
    assert watch.progress(done=0, expected=120) == Progress(stage=Stage.ANALYSING, frames_total=120)


@pytest.mark.parametrize("expected", [None, 0])
def test_of_an_unknown_total_there_is_no_share(expected: int | None) -> None:
    assert Stopwatch().progress(done=30, expected=expected) == Progress(stage=Stage.ANALYSING, frames_done=30)


@pytest.mark.parametrize(("done", "total"), [(120, 120), (150, 150)])
def test_more_than_was_expected_is_never_all(done: int, total: int) -> None:
    progress = Stopwatch().progress(done=done, expected=120)
    assert (progress.frames_total, progress.percent, progress.seconds_left) == (total, 99, 0)


def test_the_share_never_runs_back_when_more_is_expected() -> None:
    watch = Stopwatch()
    percents = [watch.progress(done=done, expected=expected).percent for done, expected in [(32, 48), (48, 100), (64, 100), (80, 100)]]
    assert percents == [66, 66, 66, 80]


def test_opening_is_of_the_stage_and_what_is_done_inside_is_not(clock: Callable[[float], None]) -> None:
    @contextmanager
    def slow() -> Iterator[str]:
        clock(2)
        yield "open"

    watch = Stopwatch()
    with watch.opened("decode", slow()) as source:
        assert source == "open"
        clock(5)
    assert (watch.timings().decode, watch.timings().total) == (2000, 7000)


def test_opening_that_fails_is_timed_too(clock: Callable[[float], None]) -> None:
    @contextmanager
    def broken() -> Iterator[None]:
        clock(2)
        raise ZeroDivisionError
        yield

    watch = Stopwatch()
    with pytest.raises(ZeroDivisionError), watch.opened("decode", broken()):
        pass
    assert watch.timings().decode == 2000


def test_stages_are_told_in_the_order_of_their_beginnings() -> None:
    watch, told = Stopwatch(), []
    with watch.told_to(told.extend):
        for stage in ("decode", "infer", "decode"):
            with watch(stage):
                time.sleep(0.001)
    assert [each.stage for each in told] == ["decode", "infer"]


def test_a_listener_that_fails_leaves_the_error_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR), pytest.raises(KeyError), Stopwatch().told_to(fail):
        raise KeyError
    (record,) = caplog.records
    assert record.exc_info
    with Stopwatch().told_to(fail):
        """And a success a success."""
