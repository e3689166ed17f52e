"""Half an hour with several people in it: no answer is larger than a mebibyte, and the pages are one result."""

import pytest

from services.gateway.schemas import ResultPage
from tests.gateway.conftest import Gateway
from tests.gateway.results import put_together, result

MIB = 1024 * 1024
FRAMES, FRAMES_OF_WINDOW = 54_000, 4


@pytest.mark.parametrize("size", [0, 1000])
def test_a_result_of_54_000_frames_comes_in_pages_below_a_mebibyte(gateway: Gateway, size: int) -> None:
    posted = gateway.post()
    whole = result(posted["id"], FRAMES // FRAMES_OF_WINDOW - 300, 299, 1)
    assert sum(window.frames for track in whole.tracks for window in track.timeline) == FRAMES
    gateway.succeed(whole)
    pages, token = [], ""
    while token is not None:
        answer = gateway.http.get(
            f"/v1/analyses/{posted['id']}/results", params={"page_size": size} | ({"page_token": token} if token else {})
        )
        assert answer.raise_for_status().status_code == 200
        assert len(answer.content) <= MIB
        assert answer.headers["cache-control"] == "no-store"
        pages.append(ResultPage.model_validate_json(answer.content))
        token = pages[-1].next_page_token
    assert put_together(pages) == {track.track_id: list(track.timeline) for track in whole.tracks}


def test_all_of_a_long_list_stays_below_a_mebibyte_and_names_everything_once(lasting_gateway: Gateway) -> None:
    posted = [lasting_gateway.post()["id"] for _ in range(120)]
    seen, token = [], None
    while True:
        answer = lasting_gateway.http.get("/v1/analyses", params={"page_size": 500} | ({"page_token": token} if token else {}))
        assert len(answer.content) * 500 / 120 <= MIB, "also when all of a page are as long as these"
        seen += [analysis["id"] for analysis in answer.json()["analyses"]]
        if (token := answer.json()["next_page_token"]) is None:
            break
    assert sorted(seen) == sorted(posted)
    for job_id in posted:
        lasting_gateway.http.delete(f"/v1/analyses/{job_id}")
