"""Results cut into pages, and put together again."""

import pytest
from fastapi.exceptions import RequestValidationError

from services.gateway import pages
from services.gateway.schemas import EXAMPLE_ID, ResultPage
from services.web.paging import place_of, token
from shared.results import Result
from tests.gateway.results import put_together, result


def all_pages(whole: Result, *, size: int) -> list[ResultPage]:
    cut = [pages.cut(whole, start=0, size=size)]
    while following := cut[-1].next_page_token:
        cut.append(pages.cut(whole, start=place_of(following), size=size))
    return cut


@pytest.mark.parametrize("size", [1, 7, 50, 1000])
@pytest.mark.parametrize("windows", [(), (0,), (3,), (70, 0, 1, 49), (0, 0, 5, 0)])
def test_no_window_and_no_track_is_lost_or_doubled(windows: tuple[int, ...], size: int) -> None:
    whole = result(EXAMPLE_ID, *windows)
    cut = all_pages(whole, size=size)
    assert put_together(cut) == {track.track_id: list(track.timeline) for track in whole.tracks}
    assert all(sum(len(track.timeline) for track in page.tracks) <= size for page in cut)


def test_every_page_repeats_all_but_the_tracks() -> None:
    whole = result(EXAMPLE_ID, 5, 5)
    for page in all_pages(whole, size=3):
        assert page.model_copy(update={"tracks": whole.tracks}).model_dump(exclude={"links", "next_page_token"}) == whole.model_dump()


def test_a_track_whose_timeline_goes_on_is_repeated() -> None:
    whole = result(EXAMPLE_ID, 2, 3)
    assert [[track.track_id for track in page.tracks] for page in all_pages(whole, size=3)] == [["t1", "t2"], ["t2"]]


def test_many_short_tracks_make_more_pages_rather_than_larger_ones() -> None:
    whole = result(EXAMPLE_ID, *[1] * 1000)
    cut = all_pages(whole, size=1000)
    assert len(cut) > 1
    assert all(len(page.model_dump_json().encode()) <= pages.MAX_PAGE_BYTES for page in cut)
    assert len(put_together(cut)) == 1000


def test_a_full_page_of_the_longest_numbers_is_below_a_mebibyte() -> None:
    page = pages.cut(result(EXAMPLE_ID, 1000), start=0, size=1000)
    assert page.next_page_token is None
    assert len(page.model_dump_json()) < pages.MAX_PAGE_BYTES


def test_a_token_of_a_longer_result_is_not_valid() -> None:
    with pytest.raises(RequestValidationError):
        pages.cut(result(EXAMPLE_ID, 3), start=place_of(token(3)), size=1)
