"""The windows that an analysis has judged so far, in the order in which they were finished, a page at a time.

A token is a place in that order, and stays one: a worker that begins the analysis anew finishes the same windows again, and once
the analysis has succeeded the order still holds, with what the result says in it.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from services.gateway.pages import Slot, all_slots
from services.gateway.results import KEPT, Results
from services.gateway.schemas import WindowPage
from services.web.paging import token
from shared.jobs import FINAL_STATES, Job, JobState
from shared.results import Result, TrackWindow
from shared.videos import Videos

AT_ONCE: Final = 1000
"""Windows that are in memory while all of an analysis are looked through."""


class Windows:
    """Reads them from where they are. Blocking, and safe to share between threads."""

    def __init__(self, videos: Videos, results: Results) -> None:
        self._videos = videos
        self._results = results
        self._order = lru_cache(maxsize=KEPT)(
            lambda job_id, attempts, attempt, _written_ns: in_order(self._all(job_id, attempts), results.read(job_id, attempt))
        )

    def page(self, job: Job, attempt: str, *, first: int, most: int) -> WindowPage:
        """The windows at `most` places from `first` on; fewer, or none, where no more are finished. `attempt` is whose result counts.

        Raises StorageError, and of an analysis that has succeeded ResultGone and ResultUnreadable.
        """
        found = self._true(job, attempt, first, most + 1) if job.state is JobState.SUCCEEDED else self._shown(job, first, most + 1)
        is_last = job.state in FINAL_STATES and len(found) <= most
        return WindowPage(
            state=job.state,
            windows=tuple(window for window in found[:most] if window is not None),
            next_page_token=None if is_last else token(first + min(len(found), most)),
        )

    def _shown(self, job: Job, first: int, most: int) -> Sequence[TrackWindow | None]:
        """As the attempt has shown them."""
        return self._videos.windows(job.id, job.attempts, first=first, most=most)

    def _true(self, job: Job, attempt: str, first: int, most: int) -> Sequence[TrackWindow | None]:
        """As the result has them."""
        order = self._order(job.id, job.attempts, attempt, self._videos.result_written_ns(job.id, attempt))
        slots = list(all_slots(self._results.read(job.id, attempt)))
        return [None if number is None else window_of(slots[number]) for number in order[first : first + most]]

    def _all(self, job_id: str, attempts: int) -> Iterator[TrackWindow]:
        first = 0
        while some := self._videos.windows(job_id, attempts, first=first, most=AT_ONCE):
            yield from some
            first += len(some)


def in_order(shown: Iterable[TrackWindow], result: Result) -> list[int | None]:
    """The windows of a result, by their number among its slots, each at the place where it was shown.

    The result is the truth: where something else was shown there is None, so that the places behind it stay what they were, and
    what was not shown as it is comes last.
    """
    slots = list(all_slots(result))
    left = {(slot.track.track_id, slot.window.start_ms): number for number, slot in enumerate(slots) if slot.window}
    order: list[int | None] = []
    for window in shown:
        name = window.track_id, window.start_ms
        is_true = name in left and fields_of(slots[left[name]]) == dict(window)
        order.append(left.pop(name) if is_true else None)
    return [*order, *left.values()]


def window_of(slot: Slot) -> TrackWindow:
    return TrackWindow(**fields_of(slot))


def fields_of(slot: Slot) -> dict[str, Any]:
    """Of a TrackWindow, without the time that it takes to make one."""
    return {"track_id": slot.track.track_id, **dict(slot.window or ())}
