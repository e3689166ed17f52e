"""A result a page at a time, cut by the windows of its timelines.

A page is bounded twice, by windows and by bytes, since a video with many short tracks has few windows but
much to say about each track.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Final, NamedTuple

from pydantic import BaseModel

from services.gateway.schemas import ResultPage, result_links
from services.web.paging import invalid_token, token
from shared.results import Result, Track, Window

MAX_PAGE_BYTES: Final = 1024 * 1024


class Slot(NamedTuple):
    """One place in a result's order: a window of a track, or the track alone when it has no windows."""

    track: Track
    window: Window | None


def cut(result: Result, *, start: int, size: int) -> ResultPage:
    """At most `size` windows from number `start` on, fewer when they would not fit in MAX_PAGE_BYTES.

    Raises RequestValidationError when there are not that many.
    """
    slots = list(all_slots(result))
    if start > 0 and start >= len(slots):
        raise invalid_token()
    taken = list(that_fit(slots[start : start + size], MAX_PAGE_BYTES - json_bytes(page_of(result, (), len(slots)))))
    end = start + len(taken)
    return page_of(result, together(taken), end if end < len(slots) else None)


def page_of(result: Result, tracks: tuple[Track, ...], next_start: int | None) -> ResultPage:
    following = None if next_start is None else token(next_start)
    return ResultPage(**{**dict(result), "tracks": tracks}, links=result_links(result), next_page_token=following)


def all_slots(result: Result) -> Iterator[Slot]:
    for track in result.tracks:
        yield from (Slot(track, window) for window in track.timeline or (None,))


def that_fit(slots: list[Slot], left_bytes: int) -> Iterator[Slot]:
    """The first slots that fit, and always one, so that paging ends."""
    previous: Track | None = None
    for slot in slots:
        left_bytes -= json_bytes(slot.window) if slot.window else 0
        left_bytes -= 0 if slot.track is previous else json_bytes(without_timeline(slot.track))
        if left_bytes < 0 and previous is not None:
            return
        yield slot
        previous = slot.track


def together(slots: list[Slot]) -> tuple[Track, ...]:
    """The tracks of these slots, each with those windows only."""
    by_track = groupby(slots, key=lambda slot: slot.track.track_id)
    return tuple(part_of(list(group)) for _, group in by_track)


def part_of(slots: list[Slot]) -> Track:
    windows = tuple(slot.window for slot in slots if slot.window)
    return slots[0].track.model_copy(update={"timeline": windows})


def without_timeline(track: Track) -> Track:
    return track.model_copy(update={"timeline": ()})


def json_bytes(model: BaseModel) -> int:
    """Size on the wire, with the comma that follows."""
    return len(model.model_dump_json().encode()) + 1
