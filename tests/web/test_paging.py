"""Sizes and tokens of pages."""

import pytest
from fastapi.exceptions import RequestValidationError

from services.web import paging


@pytest.mark.parametrize("place", [0, 1, 255, 256, 999_999, 2**48 - 1])
def test_a_token_leads_back_to_its_place(place: int) -> None:
    assert paging.place_of(paging.token(place)) == place


def test_the_first_page_has_no_token() -> None:
    assert paging.place_of(None) == paging.place_of("") == 0


@pytest.mark.parametrize("token", ["x", "!!!!", "AAAA", "é", "A" * 1000])
def test_a_token_of_somebody_else_is_not_valid(token: str) -> None:
    with pytest.raises(RequestValidationError):
        paging.place_of(token)


@pytest.mark.parametrize(("asked", "given"), [(0, 50), (1, 1), (500, 500), (501, 500), (10**9, 500)])
def test_sizes_follow_aip_158(asked: int, given: int) -> None:
    assert paging.page_size(asked, default=50, most=500) == given
