"""Posting a video: what arrives, how it is stored, and what is left when it goes wrong."""

import hashlib
import json
import logging
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from shared.jobs import Job
from tests.gateway.conftest import MAX_BYTES, RAW, VIDEO, Gateway, read_answer, wait_until

HEAD = b"POST /v1/analyses HTTP/1.1\r\nHost: mien\r\nContent-Type: video/mp4\r\n"


def in_pieces(size: int, piece: int = 65_536) -> Iterator[bytes]:
    for start in range(0, size, piece):
        yield bytes([start // piece % 251]) * min(piece, size - start)


def code(response: Any) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    return str(response.json()["code"])


# --- taken -----------------------------------------------------------------------------------------------------------


def test_a_raw_body_becomes_a_queued_analysis(gateway: Gateway) -> None:
    response = gateway.http.post("/v1/analyses", content=VIDEO, headers=RAW, params={"sample_fps": 4})
    body = response.json()
    here = f"/v1/analyses/{body['id']}"
    assert response.status_code == 202
    assert response.headers["location"] == here
    assert int(response.headers["retry-after"]) > 0
    assert response.headers["cache-control"] == "no-store"
    links = {
        "analysis": here,
        "windows": f"{here}/windows",
        "events": f"{here}/events",
        "results": None,
        "cancel": f"{here}:cancel",
        "model": None,
    }
    assert body["links"] == links
    assert (body["state"], body["options"]["sample_fps"], body["size_bytes"]) == ("queued", 4.0, len(VIDEO))
    assert body["sha256"] == hashlib.sha256(VIDEO).hexdigest()
    assert gateway.get(here) == body


def test_the_bytes_and_the_manifest_are_on_the_disk_before_the_answer(gateway: Gateway) -> None:
    posted = gateway.post()
    folder = gateway.data / "analyses" / posted["id"]
    assert gateway.files() == [f"analyses/{posted['id']}/manifest.json", f"analyses/{posted['id']}/video"]
    assert (folder / "video").read_bytes() == VIDEO
    del posted["links"]
    assert Job.model_validate_json((folder / "manifest.json").read_bytes()) == Job.model_validate(posted)
    assert gateway.claim().job.id == posted["id"]


def test_a_body_without_a_length_is_taken_as_it_comes(gateway: Gateway) -> None:
    size = MAX_BYTES - 12_345
    response = gateway.http.post("/v1/analyses", content=in_pieces(size), headers=RAW)
    assert response.request.headers["transfer-encoding"] == "chunked"
    assert response.json()["size_bytes"] == size
    assert response.json()["sha256"] == hashlib.sha256(b"".join(in_pieces(size))).hexdigest()


def test_a_video_of_exactly_the_limit_is_taken_raw_and_as_a_form(gateway: Gateway) -> None:
    video = b"v" * MAX_BYTES
    assert gateway.http.post("/v1/analyses", content=video, headers=RAW).status_code == 202
    assert gateway.http.post("/v1/analyses", files={"video": video}).status_code == 202


@pytest.mark.parametrize("kind", ["application/octet-stream", "video/webm", 'Video/MP4; codecs="avc1"'])
def test_content_types_that_are_taken(gateway: Gateway, kind: str) -> None:
    assert gateway.http.post("/v1/analyses", content=VIDEO, headers={"Content-Type": kind}).status_code == 202


def test_a_client_that_asks_first_is_told_to_go_on(gateway: Gateway) -> None:
    with gateway.connect() as connection:
        connection.sendall(HEAD + b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"video")
        assert read_answer(connection)[0] == 202


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{"Content-Type": "text/plain"}, {"Content-Type": ""}, {**RAW, "Content-Encoding": "gzip"}])
def test_other_content_types_are_refused(lasting_gateway: Gateway, headers: dict[str, str]) -> None:
    response = lasting_gateway.http.post("/v1/analyses", content=VIDEO, headers=headers)
    assert (response.status_code, code(response)) == (415, "unsupported-media-type")
    assert response.json()["accepted"] == ["video/*", "application/octet-stream", "multipart/form-data"]
    assert lasting_gateway.settles_to_nothing()


@pytest.mark.parametrize("request_of", [{"content": b"", "headers": RAW}, {"content": iter(()), "headers": RAW}, {"files": {"video": b""}}])
def test_an_empty_video_is_refused(lasting_gateway: Gateway, request_of: dict[str, Any]) -> None:
    response = lasting_gateway.http.post("/v1/analyses", **request_of)
    assert (response.status_code, code(response)) == (422, "media-empty")
    assert lasting_gateway.settles_to_nothing()


def test_two_gibibytes_are_refused_before_a_byte_of_them_is_sent(lasting_gateway: Gateway) -> None:
    started = time.monotonic()
    with lasting_gateway.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 2147483648\r\n\r\n")
        answer = connection.recv(65536).decode()
        seconds = time.monotonic() - started
    assert answer.startswith("HTTP/1.1 413 ")
    assert "connection: close" in answer.lower()
    assert f'"limit_bytes":{MAX_BYTES}' in answer
    assert seconds < 1


def test_a_client_that_sends_too_much_still_gets_to_read_why(lasting_gateway: Gateway) -> None:
    response = lasting_gateway.http.post("/v1/analyses", content=b"v" * (20 * MAX_BYTES), headers=RAW)
    assert (response.status_code, code(response)) == (413, "upload-too-large")


@pytest.mark.parametrize("as_form", [False, True])
def test_a_body_without_a_length_is_cut_off_at_the_limit(lasting_gateway: Gateway, as_form: bool) -> None:
    video = in_pieces(3 * MAX_BYTES)
    head = b'--b\r\nContent-Disposition: form-data; name="video"\r\n\r\n' if as_form else b""
    kind = "multipart/form-data; boundary=b" if as_form else "video/mp4"
    response = lasting_gateway.http.post(
        "/v1/analyses", content=(piece for part in ([head], video) for piece in part), headers={"Content-Type": kind}
    )
    assert (response.status_code, code(response)) == (413, "upload-too-large")
    assert response.json()["limit_bytes"] == MAX_BYTES
    assert lasting_gateway.settles_to_nothing()


# --- slow, or gone ---------------------------------------------------------------------------------------------------


def test_a_body_that_never_begins_is_given_up(hasty_gateway: Gateway) -> None:
    status, text = hasty_gateway.raw(HEAD + b"Content-Length: 1000\r\n\r\n")
    assert status == 408
    assert '"code":"upload-too-slow"' in text
    assert hasty_gateway.settles_to_nothing()


def test_a_trickle_is_given_up(hasty_gateway: Gateway) -> None:
    with hasty_gateway.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
        started = time.monotonic()
        while not answered(connection):
            connection.sendall(b"drip")
            time.sleep(0.02)
        assert time.monotonic() - started < 2
        assert read_answer(connection)[0] == 408
    assert hasty_gateway.settles_to_nothing()


def test_a_pause_is_forgiven_to_a_client_that_was_fast(hasty_gateway: Gateway) -> None:
    with hasty_gateway.connect() as connection:
        connection.sendall(HEAD + b"Connection: close\r\nContent-Length: 1000000\r\n\r\n" + b"v" * 999_999)
        time.sleep(0.45)
        connection.sendall(b"v")
        assert read_answer(connection)[0] == 202


def test_an_aborted_upload_leaves_no_file_no_job_and_one_line(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), gateway.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 3000000\r\n\r\n" + b"v" * 1_500_000)
        wait_until(lambda: gateway.files() != [])
        assert gateway.files()[0].startswith("incoming/")
        connection.close()
        wait_until(lambda: gateway.files() == [])
        wait_until(lambda: any(record.message == "request" for record in caplog.records))
    lines = [record for record in caplog.records if record.name.startswith(("services", "uvicorn", "asyncio"))]
    assert [(record.message, record.__dict__["status"]) for record in lines] == [("request", 499)]
    assert gateway.settles_to_nothing()


def test_stopping_the_gateway_leaves_no_half_upload(gateway: Gateway) -> None:
    gateway.service.server.config.timeout_graceful_shutdown = 0
    with gateway.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 3000000\r\n\r\n" + b"v" * 1_500_000)
        wait_until(lambda: gateway.files() != [])
        gateway.service.stop()
    assert gateway.files() == []


# --- broken behind ---------------------------------------------------------------------------------------------------


def test_without_redis_a_video_is_refused_before_it_is_sent_and_taken_again_afterwards(frail_gateway: Gateway, redis_server: Any) -> None:
    redis_server.kill()
    started = time.monotonic()
    status, text = frail_gateway.raw(HEAD + b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: 3000000\r\n\r\n")
    assert status == 503  # and not 100
    assert '"code":"dependency-unavailable"' in text
    assert '"dependency":"redis"' in text
    assert "retry-after: 5" in text.lower()
    assert str(redis_server.port) not in text
    assert time.monotonic() - started < 5
    assert frail_gateway.files() == []
    redis_server.start()
    assert frail_gateway.post()["state"] == "queued"


def test_when_redis_dies_during_an_upload_nothing_is_left(frail_gateway: Gateway, redis_server: Any) -> None:
    with frail_gateway.connect() as connection:
        connection.sendall(HEAD + b"Connection: close\r\nContent-Length: 2000000\r\n\r\n" + b"v" * 1_500_000)
        wait_until(lambda: frail_gateway.files() != [])
        redis_server.kill()
        connection.sendall(b"v" * 500_000)
        status, text = read_answer(connection)
    assert status == 503
    assert '"code":"dependency-unavailable"' in text
    assert frail_gateway.files() == []


@pytest.mark.parametrize("in_its_place", [None, "a file"])
def test_a_broken_data_folder_is_a_503_that_names_no_path(gateway: Gateway, in_its_place: str | None) -> None:
    (gateway.data / "incoming").rmdir()
    if in_its_place:
        (gateway.data / "incoming").write_text(in_its_place)
    response = gateway.http.post("/v1/analyses", content=VIDEO, headers=RAW)
    assert (response.status_code, code(response), response.json()["dependency"]) == (503, "dependency-unavailable", "storage")
    assert str(gateway.data) not in response.text
    assert gateway.get("/v1/analyses")["analyses"] == []


def test_without_triton_videos_are_taken_all_the_same(gateway: Gateway) -> None:
    gateway.triton.hang.set()
    assert gateway.post()["state"] == "queued"


def test_no_name_of_a_file_is_logged_or_kept(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        response = gateway.http.post("/v1/analyses", files={"video": ("../holiday\u202e.mp4", VIDEO)})
    assert response.status_code == 202
    kept = json.dumps([{name: str(value) for name, value in vars(record).items()} for record in caplog.records if record.name != "httpx"])
    assert "holiday" not in kept + str(gateway.files()) + response.text


def answered(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        connection.settimeout(10)
