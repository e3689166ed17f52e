"""Rows B6, B9 and L8: forms that mean harm, names that mean harm, uploads that break off, by the hundred. To a gateway of its own, whose
processor time, files and log lines are its own, too."""

import socket
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import RedisServer
from tests.gateway.conftest import VIDEO, soon
from tests.gateway.hostile import DEAR, END, FORM, HOSTILE, MIB, VIDEO_PART, post, request
from tests.gateway.processes import GatewayProcess, launched

ABORTED = 200
MOST_STALL_S = 0.1
MOST_CPU_S = 1.0
"""Per 64 MiB of body."""


@pytest.fixture(scope="module")
def process(shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    shared_redis.empty()
    data = tmp_path_factory.mktemp("data")
    with launched(redis_url=shared_redis.url, data=data / "data", max_upload_bytes=80 * MIB) as process:
        yield process


TYPED = frozenset({"malformed-request", "validation-failed", "unsupported-media-type", "upload-too-large"})


def nothing_is_left(process: GatewayProcess) -> bool:
    listed = httpx.get(f"{process.url}/v1/analyses", trust_env=False).json()["analyses"]
    return not process.files() and not listed


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_form_is_the_senders_fault_and_leaves_nothing(process: GatewayProcess, case: str) -> None:
    status, text = post(process.port, request(*HOSTILE[case]))
    assert 400 <= status < 500, text
    assert any(f'"code":"{code}"' in text for code in TYPED), text
    assert soon(lambda: nothing_is_left(process))


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: -1\r\n",
        b"Content-Length: 9223372036854775808\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Content-Length: five\r\n",
    ],
)
def test_lengths_that_contradict_themselves_are_refused(process: GatewayProcess, lines: bytes) -> None:
    head = f"POST /v1/analyses HTTP/1.1\r\nHost: mien\r\nConnection: close\r\nContent-Type: {FORM}\r\n".encode()
    status, _ = post(process.port, head + lines + b"\r\n" + b"5\r\nvideo\r\n0\r\n\r\n")
    assert 400 <= status < 500
    assert soon(lambda: nothing_is_left(process))


@pytest.mark.parametrize("name", DEAR)
def test_64_mib_that_are_dear_to_parse_are_cheap_enough_and_keep_nobody_waiting(process: GatewayProcess, name: str) -> None:
    over, waits = threading.Event(), [0.0]
    pinger = threading.Thread(target=ping, args=(process.url, waits, over))
    pinger.start()
    before = sum(process.usage().cpu_times()[:2])
    try:
        status, text = post(process.port, DEAR[name])
    finally:
        over.set()
        pinger.join()
    spent_s = sum(process.usage().cpu_times()[:2]) - before
    assert status == 202, text
    assert spent_s < MOST_CPU_S
    assert sorted(waits)[len(waits) // 2] < MOST_STALL_S, "the longest of them says more about the machine than about the gateway"
    httpx.delete(f"{process.url}{text[text.index('/v1/analyses/an_') :][:48]}", trust_env=False).raise_for_status()


# --- names (row B9) ----------------------------------------------------------------------------------------------------

NAMES = {
    "a path": b"../../etc/passwd-marker",
    "an absolute path": b"/etc/passwd-marker",
    "a Windows path": b"..\\..\\marker.mp4",
    "an end of text": b"marker\x00.mp4",
    "very long": b"marker" * 1700,
    "right to left": "marker\u202e4pm.exe".encode(),
    "line ends": b"marker%0d%0aSet-Cookie: marker=1",
    "a script": b"<script>marker</script>.mp4",
    "two extensions": b"marker.mp4.exe",
    "no text": b"marker\xff\xfe",
}


@pytest.mark.parametrize("case", NAMES)
def test_what_a_client_calls_its_file_goes_nowhere(process: GatewayProcess, case: str) -> None:
    name = NAMES[case]
    part = b'--b\r\nContent-Disposition: form-data; name="video"; filename="' + name + b'"\r\n'
    status, text = post(process.port, request(b"", part + b"Content-Type: text/html\r\n\r\n" + VIDEO + END))
    assert status in (202, 400)
    assert "x-content-type-options: nosniff" in text.lower()
    metadata = f"filename {b64encode(name[:4000]).decode()}"
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "9", "Upload-Metadata": metadata}
    upload = httpx.post(f"{process.url}/v1/uploads", headers=headers, trust_env=False)
    assert (upload.status_code, upload.headers["x-content-type-options"]) == (201, "nosniff")
    kept = b"".join(path.read_bytes() for path in process.data.rglob("*") if path.is_file())
    assert b"marker" not in kept + str(process.files()).encode() + text.encode() + upload.content
    assert "marker" not in str(upload.headers) + process.output()


@pytest.mark.parametrize("value", ["marker<script>", "m" * 65, "marker marker", "m\xe4rker", "../marker"])
def test_a_request_id_that_could_do_harm_is_not_kept(process: GatewayProcess, value: str) -> None:
    response = httpx.get(f"{process.url}/v1/analyses", headers={b"X-Request-Id": value.encode("latin-1")}, trust_env=False)
    assert response.headers["x-request-id"] != value
    assert len(response.headers["x-request-id"]) == 32


# --- uploads that break off (row L8) -------------------------------------------------------------------------------------


def test_aborted_uploads_cost_a_line_each_and_leave_nothing(redis_server: RedisServer, tmp_path: Path) -> None:
    raw = b"POST /v1/analyses HTTP/1.1\r\nHost: mien\r\nContent-Type: video/mp4\r\nContent-Length: 5000000\r\n\r\n" + b"v" * 50_000
    tus = b"POST /v1/uploads HTTP/1.1\r\nHost: mien\r\nTus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\n"
    tus += b"Upload-Length: 5000000\r\nContent-Length: 5000000\r\n\r\n" + b"v" * 50_000
    form = request(b"", VIDEO_PART + b"v" * 50_000 + END)[:-20]
    with launched(redis_url=redis_server.url, data=tmp_path / "data") as process:
        before = len(process.lines())
        for number in range(ABORTED):
            with socket.create_connection(("127.0.0.1", process.port), timeout=20) as connection:
                connection.sendall((raw, form, tus)[number % 3])
        assert soon(lambda: sum(line.get("status") == 499 for line in process.lines()) == ABORTED, within_s=40)
        assert soon(lambda: nothing_is_left(process))
        lines = [line for line in process.lines()[before:] if line.get("method") != "GET"]
        assert len(lines) == ABORTED
        assert not any("traceback" in line for line in lines)
        assert list(process.temporary.iterdir()) == []


def ping(url: str, waits: list[float], over: threading.Event) -> None:
    with httpx.Client(base_url=url, trust_env=False) as client:
        while not over.wait(0.005):
            began = time.monotonic()
            client.get("/healthz")
            waits.append(time.monotonic() - began)
