"""Row L3: what does not fit in the queue is refused before it is sent, and what was taken is never dropped."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from services.gateway.uploads import UploadLimits
from shared.queue import Limits
from tests.gateway.conftest import MAX_BYTES, RAW, VIDEO, Gateway, running

MOST = 10
OFFERED = 30
HEAD = b"POST /v1/analyses HTTP/1.1\r\nHost: mien\r\nConnection: close\r\nContent-Type: video/mp4\r\nExpect: 100-continue\r\n"
TUS = {"Tus-Resumable": "1.0.0", "Upload-Length": "1000000"}


@pytest.fixture
def small(redis_url: str, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway whose queue is soon full."""
    limits = Limits(jobs=MOST, bytes=1_000_000, tenant_jobs=MOST)
    with running(redis_url=redis_url, data=tmp_path / "data", limits=UploadLimits(max_bytes=MAX_BYTES), queue_limits=limits) as gateway:
        yield gateway


def post(gateway: Gateway) -> Any:
    return gateway.http.post("/v1/analyses", content=VIDEO, headers=RAW)


def test_exactly_the_overflow_is_refused_and_everything_else_is_kept(small: Gateway) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(small), range(OFFERED)))
    assert Counter(answer.status_code for answer in answers) == {202: MOST, 503: OFFERED - MOST}
    for refused in (answer for answer in answers if answer.status_code == 503):
        assert refused.json()["code"] == "queue-full"
        assert refused.json()["retryable"] is True
        assert int(refused.headers["retry-after"]) > 0
    taken = {answer.json()["id"] for answer in answers if answer.status_code == 202}
    assert {path.split("/")[1] for path in small.files()} == taken
    claimed = set()
    while lease := small.worker.claim():
        claimed.add(lease.job.id)
    assert claimed == taken
    assert post(small).status_code == 202


def test_a_full_queue_says_so_before_the_body_is_sent(small: Gateway) -> None:
    for _ in range(MOST):
        small.post()
    status, text = small.raw(HEAD + b"Content-Length: 3000000\r\n\r\n")
    assert (status, '"code":"queue-full"' in text) == (503, True)  # and not 100
    refused = small.http.post("/v1/uploads", headers=TUS)
    assert (refused.status_code, refused.json()["code"]) == (503, "queue-full")


def test_so_many_bytes_may_wait_and_no_more(small: Gateway) -> None:
    small.post(b"v" * 900_000)
    status, text = small.raw(HEAD + b"Content-Length: 200000\r\n\r\n")
    assert (status, '"code":"queue-full"' in text) == (503, True)
    assert small.post(b"v" * 50_000)["state"] == "queued"


def test_a_tenant_may_fill_only_its_part(redis_url: str, tmp_path: Path) -> None:
    limits = Limits(jobs=MOST, tenant_jobs=2)
    with running(redis_url=redis_url, data=tmp_path / "data", limits=UploadLimits(max_bytes=MAX_BYTES), queue_limits=limits) as gateway:
        assert [post(gateway).status_code for _ in range(3)] == [202, 202, 429]
        refused = post(gateway)
        assert (refused.json()["code"], refused.json()["quota"]) == ("quota-exceeded", "queued-analyses")
        assert int(refused.headers["retry-after"]) > 0
