"""Row D6, scaled: a large upload over a line that breaks again and again, to a gateway that is killed again and again."""

import hashlib
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.gateway.conftest import soon
from tests.gateway.processes import GatewayProcess, launched, patiently

MIB = 2**20
SIZE = int(os.environ.get("MIEN_UPLOAD_MIB", "32")) * MIB
"""The row's own size is 256."""
CUTS, KILLS, WRONG_OFFSETS = 20, 5, 20
MOST_SENT_AGAIN = 8 * 2**20
TUS = {"Tus-Resumable": "1.0.0"}
SEED = 5


@pytest.fixture
def process(redis_url: str, tmp_path: Path) -> Iterator[GatewayProcess]:
    with launched(redis_url=redis_url, data=tmp_path / "data", max_upload_bytes=SIZE) as process:
        yield process


class Client:
    """Goes on where the server says, as the protocol has it."""

    def __init__(self, process: GatewayProcess, video: bytes) -> None:
        self._process = process
        self._video = video
        headers = {**TUS, "Upload-Length": str(len(video))}
        begun = patiently(lambda: httpx.post(f"{process.url}/v1/uploads", headers=headers, trust_env=False, timeout=30))
        self.path = begun.raise_for_status().headers["location"]
        self.offsets: list[int] = []
        self.sent_again: list[int] = []

    def head(self) -> httpx.Headers:
        return httpx.head(f"{self._process.url}{self.path}", headers=TUS, trust_env=False, timeout=30).raise_for_status().headers

    def begin(self, at: int) -> socket.socket:
        """Promise all the rest."""
        connection = socket.create_connection(("127.0.0.1", self._process.port), timeout=20)
        connection.sendall(
            f"PATCH {self.path} HTTP/1.1\r\nHost: mien\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {at}\r\nConnection: close\r\n"
            f"Content-Type: application/offset+octet-stream\r\nContent-Length: {len(self._video) - at}\r\n\r\n".encode()
        )
        return connection

    def send_some(self, size: int, *, kill: bool) -> None:
        """Send so many bytes of what is missing, and break off: the line, or the gateway."""
        at = self.settled()
        with self.begin(at) as connection:
            connection.sendall(self._video[at : at + size])
            if kill:
                self._process.kill()
        if kill:
            self._process.start()
        self.sent_again.append(at + size - self.settled())

    def settled(self) -> int:
        """The offset, once the server has noticed that the last request is over."""
        assert soon(lambda: self.append(b"", int(self.head()["upload-offset"])) == 204, within_s=20)
        offset = int(self.head()["upload-offset"])
        self.offsets.append(offset)
        return offset

    def append(self, content: bytes, at: int) -> int:
        headers = {**TUS, "Upload-Offset": str(at), "Content-Type": "application/offset+octet-stream"}
        answer = httpx.patch(f"{self._process.url}{self.path}", content=content, headers=headers, trust_env=False, timeout=60)
        if answer.status_code == 503:  # as an honest client does: later, from where the upload is by then
            time.sleep(int(answer.headers["retry-after"]))
            now = int(self.head()["upload-offset"])
            return self.append(content[now - at :], now)
        if answer.status_code == 409 and answer.json()["code"] == "mismatching-upload-offset":
            assert answer.json()["expected_offset"] == int(self.head()["upload-offset"]) != at
        return answer.status_code


def test_cuts_and_kills_lose_nothing_that_was_acknowledged(process: GatewayProcess) -> None:
    chance = random.Random(SEED)  # noqa: S311 -- not a secret
    video = b"".join(chance.randbytes(MIB) for _ in range(SIZE // MIB))
    client = Client(process, video)
    accidents = [False] * CUTS + [True] * KILLS
    chance.shuffle(accidents)
    for kill in accidents:
        client.send_some(chance.randint(1, 2 * SIZE // (CUTS + KILLS) - 200_000), kill=kill)
        size = (process.data / "uploads" / client.path.rpartition("/")[2] / "bytes").stat().st_size
        assert client.offsets[-1] == size
    assert client.offsets == sorted(client.offsets)
    assert max(client.sent_again) <= MOST_SENT_AGAIN
    at = client.offsets[-1]
    wrong = [offset for offset in (chance.randint(0, SIZE) for _ in range(WRONG_OFFSETS)) if offset != at]
    assert {client.append(b"x", offset) for offset in wrong} == {409}
    assert client.append(video[at:], at) == 204
    analysis = client.head()["mien-analysis"]
    kept = process.data / "analyses" / analysis.rpartition("/")[2] / "video"
    assert hashlib.sha256(kept.read_bytes()).digest() == hashlib.sha256(video).digest()
    listed = patiently(lambda: httpx.get(f"{process.url}/v1/analyses", trust_env=False, timeout=30)).json()["analyses"]
    assert [one["sha256"] for one in listed] == [hashlib.sha256(video).hexdigest()]
    assert "traceback" not in process.output()


def test_a_gateway_that_is_killed_with_the_last_byte_finishes_as_it_starts(process: GatewayProcess) -> None:
    video = random.Random(SEED).randbytes(4 * 2**20)  # noqa: S311 -- not a secret
    client = Client(process, video)
    with client.begin(0) as connection:
        connection.sendall(video)
        bytes_ = process.data / "uploads" / client.path.rpartition("/")[2] / "bytes"
        assert soon(lambda: not bytes_.exists() or bytes_.stat().st_size == len(video))
        process.kill()
    process.start()
    assert soon(lambda: len(httpx.get(f"{process.url}/v1/analyses", trust_env=False).json()["analyses"]) == 1)
    assert "mien-analysis" in client.head()
