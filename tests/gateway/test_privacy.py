"""Nothing of a deleted analysis is left, wherever one may look, and no log line ever said whose or what it was."""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from services.gateway.uploads import UploadLimits
from services.web.guard import guard_of_host
from shared.keys import KeyFolder, Purpose, Role
from shared.logs import JsonLines
from tests.gateway.conftest import MAX_BYTES, Gateway, running, soon
from tests.gateway.results import result

VIDEO_CANARY = "canary-in-the-pixels"
NAME_CANARY = "anna-and-ben-at-the-lake"
KEY_CANARY = "order-4711-of-anna"
SCORE_CANARY = 0.123456789
"""Part of every box that `tests.gateway.results` makes up."""


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """The lines that the gateway would have written to its standard output."""
    written: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(self.format(record))

    collect = Collect(logging.DEBUG)
    collect.setFormatter(JsonLines("gateway"))
    root = logging.getLogger()
    before = root.level
    root.addHandler(collect)
    root.setLevel(logging.INFO)
    yield written
    root.removeHandler(collect)
    root.setLevel(before)


def post_form(gateway: Gateway, **headers: str) -> dict[str, Any]:
    answer = gateway.http.post(
        "/v1/analyses",
        files={"video": (f"{NAME_CANARY}.mp4", f"\x00\x00\x00\x18ftypmp42 {VIDEO_CANARY}".encode() * 100, "video/mp4")},
        headers={"Idempotency-Key": KEY_CANARY, **headers},
    )
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


def contents(folder: Path) -> dict[str, bytes]:
    """Every file beneath, with its own name, which might tell as much."""
    return {str(path): str(path).encode() + path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_after_a_deletion_nothing_is_left_anywhere(frail_gateway: Gateway, redis_server: Any, tmp_path: Path, lines: list[str]) -> None:
    gateway = frail_gateway
    posted = post_form(gateway)
    gateway.succeed(result(posted["id"], 3))
    here = posted["links"]["analysis"]
    gateway.get(f"{here}/results")
    secrets = [text.encode() for text in (VIDEO_CANARY, NAME_CANARY, KEY_CANARY, str(SCORE_CANARY), posted["sha256"])]
    on_disk = contents(tmp_path)
    assert any(VIDEO_CANARY.encode() in content for content in on_disk.values()), "the search finds what is there"
    for never in (NAME_CANARY, KEY_CANARY):
        assert not [path for path, content in on_disk.items() if never.encode() in content], "not even while it is kept"
    deleted_s = time.monotonic()
    receipt = gateway.http.delete(here).raise_for_status().json()
    with redis.Redis.from_url(redis_server.url) as client:
        client.bgrewriteaof()
        assert soon(lambda: not client.info("persistence")["aof_rewrite_in_progress"], within_s=20)
    answer = gateway.http.get(here)
    assert answer.status_code == 410
    left = {
        **contents(tmp_path),
        "metrics": gateway.http.get("/metrics").content,
        "logs": "\n".join(lines).encode(),
        "receipt": json.dumps(receipt).encode(),
        "answer": answer.content,
    }
    assert [(place, secret) for place, content in left.items() for secret in secrets if secret in content] == []
    assert not [place for place in left if posted["id"] in place]
    assert time.monotonic() - deleted_s < 60


def test_log_lines_name_the_request_and_the_job_and_nobody(redis_url: str, tmp_path: Path, lines: list[str]) -> None:
    folder = tmp_path / "keys"
    key = KeyFolder(folder).create(tenant="public", roles={Role.CLIENT, Role.OPS}, purpose=Purpose.RESEARCH).written
    limits, guard = UploadLimits(max_bytes=MAX_BYTES), guard_of_host("127.0.0.1", folder)
    with running(redis_url=redis_url, data=tmp_path / "data", limits=limits, guard=guard) as gateway:
        gateway.http.headers["Authorization"] = f"Bearer {key}"
        posted = post_form(gateway, **{"X-Request-Id": "r-1"})
        here = posted["links"]["analysis"]
        lease = gateway.succeed(result(posted["id"], 3))
        assert (lease.job.request_id, posted["request_id"]) == ("r-1", "r-1")
        gateway.get(f"{here}/results")
        gateway.http.get(here, headers={"Authorization": "Bearer mien_nobody_nothing"})
        gateway.http.post("/v1/analyses", content=b"", headers={"Content-Type": f"video/{NAME_CANARY}"})
        gateway.http.get(f"/v1/{NAME_CANARY}?name={NAME_CANARY}")
        gateway.http.delete(here)
    said = [json.loads(line) for line in lines]
    (accepted,) = (line for line in said if line["event"] == "accepted")
    assert (accepted["request_id"], accepted["job_id"]) == ("r-1", posted["id"])
    requests = [line for line in said if line["event"] == "request"]
    assert len(requests) == 6
    assert all(line["request_id"] for line in requests)
    assert {line.get("problem") for line in requests} == {None, "unauthenticated", "media-empty", "not-found"}
    ours = "\n".join(line for line in lines if json.loads(line)["logger"].partition(".")[0] in {"services", "shared", "uvicorn"})
    for secret in (VIDEO_CANARY, NAME_CANARY, KEY_CANARY, key, key.split("_", 2)[2], "127.0.0.1", str(SCORE_CANARY), posted["sha256"]):
        assert secret not in ours
