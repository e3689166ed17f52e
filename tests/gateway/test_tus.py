"""Resumable uploads: the protocol, what counts after a line broke, and that a whole upload becomes one analysis."""

import asyncio
import hashlib
import logging
import socket
import threading
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from services.gateway.tus import record, store
from services.gateway.tus.finish import Finisher
from services.gateway.tus.record import Upload
from services.gateway.tus.store import Uploads
from shared.queue import GatewayQueue, Limits
from shared.videos import Videos
from tests.gateway.conftest import MAX_BYTES, RAW, Gateway, read_answer, wait_until

TUS = {"Tus-Resumable": "1.0.0"}
OFFSET = {**TUS, "Content-Type": "application/offset+octet-stream"}
VIDEO = bytes(range(256)) * 4000


def begin(gateway: Gateway, length: int = len(VIDEO), **headers: str) -> str:
    """The path of a new upload."""
    response = gateway.http.post("/v1/uploads", headers={**TUS, "Upload-Length": str(length), **headers})
    assert response.status_code == 201, response.text
    return str(response.headers["location"])


def send(gateway: Gateway, upload: str, offset: int, content: bytes, **headers: str) -> Any:
    return gateway.http.patch(upload, content=content, headers={**OFFSET, "Upload-Offset": str(offset), **headers})


def head(gateway: Gateway, upload: str) -> Any:
    return gateway.http.head(upload, headers=TUS)


def offset(gateway: Gateway, upload: str) -> int:
    response = head(gateway, upload)
    assert response.status_code == 200
    return int(response.headers["upload-offset"])


def code(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["tus-resumable"] == "1.0.0"
    return str(response.json()["code"])


def sha1(content: bytes) -> str:
    return f"sha1 {b64encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode()}"


def cut_off(gateway: Gateway, upload: str, at: int, content: bytes, *, promised: int, extra: str = "") -> None:
    """Promise more than is sent, and go away."""
    lines = f"PATCH {upload} HTTP/1.1\r\nHost: mien\r\nTus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\n"
    with gateway.connect() as connection:
        connection.sendall(f"{lines}Upload-Offset: {at}\r\nContent-Length: {promised}\r\n{extra}\r\n".encode() + content)


def analysis_of(gateway: Gateway, upload: str) -> dict[str, Any]:
    return gateway.get(head(gateway, upload).headers["mien-analysis"])


# --- the protocol ----------------------------------------------------------------------------------------------------


def test_what_the_server_can_do_is_asked_with_options(lasting_gateway: Gateway) -> None:
    response = lasting_gateway.http.options("/v1/uploads")
    assert response.status_code == 204
    assert response.headers["tus-version"] == "1.0.0"
    assert response.headers["tus-max-size"] == str(MAX_BYTES)
    assert set(response.headers["tus-extension"].split(",")) == {
        "creation",
        "creation-with-upload",
        "expiration",
        "termination",
        "checksum",
    }
    assert response.headers["tus-checksum-algorithm"].split(",") == ["sha1", "sha256"]


def test_an_upload_in_three_requests_becomes_an_analysis(gateway: Gateway) -> None:
    upload = begin(gateway, **{"Upload-Metadata": f"sample_fps {b64encode(b'4').decode()},filename aG9saWRheS5tcDQ="})
    assert (offset(gateway, upload), head(gateway, upload).headers["upload-length"]) == (0, str(len(VIDEO)))
    for start, end in ((0, 10), (10, 600_000), (600_000, len(VIDEO))):
        answer = send(gateway, upload, start, VIDEO[start:end])
        assert (answer.status_code, answer.headers["upload-offset"], answer.content) == (204, str(end), b"")
        assert ("mien-analysis" in answer.headers) is (end == len(VIDEO))
    analysis = gateway.get(answer.headers["mien-analysis"])
    assert (analysis["state"], analysis["size_bytes"], analysis["options"]["sample_fps"]) == ("queued", len(VIDEO), 4.0)
    assert analysis["sha256"] == hashlib.sha256(VIDEO).hexdigest()
    assert (gateway.data / "analyses" / analysis["id"] / "video").read_bytes() == VIDEO
    assert gateway.claim().job.id == analysis["id"]
    assert gateway.worker.claim() is None


def test_head_says_everything_and_is_not_cached(gateway: Gateway) -> None:
    upload = begin(gateway, **{"Upload-Metadata": "max_faces NQ==,filename aG9saWRheS5tcDQ="})
    headers = head(gateway, upload).headers
    assert headers["cache-control"] == "no-store"
    assert headers["upload-metadata"] == "max_faces NQ=="  # nobody's file name is kept
    assert headers["upload-expires"].endswith("GMT")
    assert gateway.get(upload)["offset"] == 0
    assert "holiday" not in "".join(path.read_text() for path in gateway.data.rglob("record.json"))


def test_the_first_bytes_may_come_at_once_and_the_last_may_be_among_them(gateway: Gateway) -> None:
    part = gateway.http.post("/v1/uploads", content=VIDEO[:99], headers={**OFFSET, "Upload-Length": str(len(VIDEO))})
    assert (part.status_code, part.headers["upload-offset"]) == (201, "99")
    whole = gateway.http.post("/v1/uploads", content=VIDEO, headers={**OFFSET, "Upload-Length": str(len(VIDEO))})
    assert gateway.get(whole.json()["analysis"])["size_bytes"] == len(VIDEO)
    assert whole.headers["mien-analysis"] == whole.json()["analysis"]


def test_clients_that_can_only_post_say_what_they_mean(gateway: Gateway) -> None:
    upload = begin(gateway)
    patched = gateway.http.post(upload, content=VIDEO[:5], headers={**OFFSET, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"})
    assert (patched.status_code, patched.headers["upload-offset"]) == (204, "5")
    assert gateway.http.post(upload, headers={**TUS, "X-HTTP-Method-Override": "DELETE"}).status_code == 204
    assert gateway.http.post(upload, headers={**TUS, "X-HTTP-Method-Override": "GET"}).status_code == 405


@pytest.mark.parametrize("version", [None, "0.2.2"])
def test_another_version_is_not_spoken(lasting_gateway: Gateway, version: str | None) -> None:
    headers = {"Upload-Length": "5"} if version is None else {"Upload-Length": "5", "Tus-Resumable": version}
    response = lasting_gateway.http.post("/v1/uploads", headers=headers)
    assert code(response, 412) == "tus-version-unsupported"
    assert response.headers["tus-version"] == "1.0.0"
    assert lasting_gateway.settles_to_nothing()


def test_a_look_may_leave_the_version_out_but_not_empty(gateway: Gateway) -> None:
    upload = gateway.http.post("/v1/uploads", headers={"Upload-Length": "5", "Tus-Resumable": "1.0.0"}).headers["location"]
    assert gateway.http.get(upload).status_code == 200
    assert code(gateway.http.get(upload, headers={"Tus-Resumable": ""}), 412) == "tus-version-unsupported"


@pytest.mark.parametrize(
    ("headers", "status", "name"),
    [
        ({}, 422, "validation-failed"),
        ({"Upload-Length": "-1"}, 422, "validation-failed"),
        ({"Upload-Length": "0"}, 422, "media-empty"),
        ({"Upload-Length": str(MAX_BYTES + 1)}, 413, "upload-too-large"),
        ({"Upload-Length": "5", "Upload-Metadata": "sample_fps !"}, 400, "malformed-request"),
        ({"Upload-Length": "5", "Upload-Metadata": "max_faces NQ==,max_faces NQ=="}, 400, "malformed-request"),
        ({"Upload-Length": "5", "Upload-Metadata": "sample_fsp NQ=="}, 422, "validation-failed"),
        ({"Upload-Length": "5", "Upload-Metadata": "sample_fps NjE="}, 422, "validation-failed"),
        ({"Upload-Length": "5", "Upload-Metadata": "model_version OQ=="}, 404, "model-version-unavailable"),
    ],
)
def test_uploads_that_are_not_begun(lasting_gateway: Gateway, headers: dict[str, str], status: int, name: str) -> None:
    assert code(lasting_gateway.http.post("/v1/uploads", headers={**TUS, **headers}), status) == name
    assert lasting_gateway.settles_to_nothing()


def test_only_its_own_content_type_is_taken(gateway: Gateway) -> None:
    upload = begin(gateway)
    response = gateway.http.patch(upload, content=b"x", headers={**TUS, "Upload-Offset": "0", **RAW})
    assert code(response, 415) == "unsupported-media-type"
    assert response.json()["accepted"] == ["application/offset+octet-stream"]


def test_more_than_was_announced_is_refused(gateway: Gateway) -> None:
    upload = begin(gateway, 10)
    assert code(send(gateway, upload, 0, b"x" * 11), 413) == "upload-too-large"
    answer = gateway.http.patch(upload, content=iter([b"x" * 4, b"x" * 7]), headers={**OFFSET, "Upload-Offset": "0"})
    assert code(answer, 413) == "upload-too-large"
    assert offset(gateway, upload) in (0, 4)


@pytest.mark.parametrize("name", ["up_" + "0" * 32, "nope", "..%2f..", "up_" + "é" * 32])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PATCH", "DELETE"])
def test_ids_that_were_never_given_out_are_unknown(lasting_gateway: Gateway, method: str, name: str) -> None:
    response = lasting_gateway.http.request(method, f"/v1/uploads/{name}", headers={**OFFSET, "Upload-Offset": "0"})
    assert response.status_code == 404


# --- what counts -----------------------------------------------------------------------------------------------------


def test_a_wrong_offset_changes_nothing_and_names_the_right_one(gateway: Gateway) -> None:
    upload = begin(gateway)
    send(gateway, upload, 0, VIDEO[:100])
    for wrong in (0, 99, 101, len(VIDEO), 2**62):
        response = send(gateway, upload, wrong, b"x")
        assert code(response, 409) == "mismatching-upload-offset"
        assert (response.json()["expected_offset"], response.json()["provided_offset"]) == (100, wrong)
    assert offset(gateway, upload) == 100


def test_what_arrived_before_the_line_broke_counts(gateway: Gateway) -> None:
    upload = begin(gateway)
    cut_off(gateway, upload, 0, VIDEO[:123_456], promised=500_000)
    wait_until(lambda: offset(gateway, upload) == 123_456)
    wait_until(lambda: send(gateway, upload, 123_456, VIDEO[123_456:]).status_code == 204)
    assert analysis_of(gateway, upload)["sha256"] == hashlib.sha256(VIDEO).hexdigest()


def test_what_arrived_before_a_client_got_too_slow_counts(hasty_gateway: Gateway) -> None:
    upload = begin(hasty_gateway)
    lines = f"PATCH {upload} HTTP/1.1\r\nHost: mien\r\nTus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\n"
    status, _ = hasty_gateway.raw(f"{lines}Upload-Offset: 0\r\nContent-Length: 500\r\n\r\n".encode() + VIDEO[:200])
    assert (status, offset(hasty_gateway, upload)) == (408, 200)


def test_of_two_that_add_at_once_one_wins(gateway: Gateway) -> None:
    upload = begin(gateway)
    answers: list[int] = []
    slow = (VIDEO[start : start + 100_000] for start in range(0, len(VIDEO), 100_000) if not time.sleep(0.03))

    def patch(content: Any) -> None:
        response = gateway.http.patch(upload, content=content, headers={**OFFSET, "Upload-Offset": "0"})
        answers.append(response.status_code)

    threads = [threading.Thread(target=patch, args=(content,)) for content in (slow, b"x" * 10)]
    threads[0].start()
    time.sleep(0.1)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert answers == [409, 204]
    assert analysis_of(gateway, upload)["sha256"] == hashlib.sha256(VIDEO).hexdigest()


def test_a_checksum_that_fits_is_kept_and_one_that_does_not_leaves_the_offset(gateway: Gateway) -> None:
    upload = begin(gateway)
    assert send(gateway, upload, 0, VIDEO[:70_000], **{"Upload-Checksum": sha1(VIDEO[:70_000])}).status_code == 204
    wrong = send(gateway, upload, 70_000, VIDEO[70_000:], **{"Upload-Checksum": sha1(b"else")})
    assert code(wrong, 460) == "upload-checksum-mismatch"
    assert offset(gateway, upload) == 70_000
    sha256 = f"sha256 {b64encode(hashlib.sha256(VIDEO[70_000:]).digest()).decode()}"
    assert send(gateway, upload, 70_000, VIDEO[70_000:], **{"Upload-Checksum": sha256}).status_code == 204
    assert analysis_of(gateway, upload)["sha256"] == hashlib.sha256(VIDEO).hexdigest()


@pytest.mark.parametrize("checksum", ["crc32 AAAA", "sha1", "sha1 !"])
def test_a_checksum_that_nobody_can_check_is_refused(gateway: Gateway, checksum: str) -> None:
    upload = begin(gateway)
    response = send(gateway, upload, 0, b"abc", **{"Upload-Checksum": checksum})
    assert response.status_code == (460 if checksum == "sha1" else 400)
    assert offset(gateway, upload) == 0


def test_bytes_with_a_checksum_do_not_count_before_all_of_them_are_there(gateway: Gateway) -> None:
    upload = begin(gateway)
    send(gateway, upload, 0, VIDEO[:50])
    cut_off(gateway, upload, 50, VIDEO[50:2_000], promised=5_000, extra=f"Upload-Checksum: {sha1(VIDEO[50:5050])}\r\n")
    wait_until(lambda: send(gateway, upload, 50, VIDEO[50:], **{"Upload-Checksum": sha1(VIDEO[50:])}).status_code == 204)
    assert analysis_of(gateway, upload)["sha256"] == hashlib.sha256(VIDEO).hexdigest()


# --- becoming an analysis --------------------------------------------------------------------------------------------


def test_sending_the_last_bytes_again_makes_no_second_analysis(gateway: Gateway) -> None:
    upload = begin(gateway)
    first = send(gateway, upload, 0, VIDEO).headers["mien-analysis"]
    assert send(gateway, upload, len(VIDEO), b"").headers["mien-analysis"] == first
    assert head(gateway, upload).headers["mien-analysis"] == first
    assert len(gateway.get("/v1/analyses")["analyses"]) == 1


def test_an_upload_that_is_whole_while_redis_is_away_waits_for_it(frail_gateway: Gateway, redis_server: Any) -> None:
    upload = begin(frail_gateway)
    redis_server.kill()
    assert code(send(frail_gateway, upload, 0, VIDEO), 503) == "dependency-unavailable"
    waiting = head(frail_gateway, upload)
    assert (waiting.status_code, waiting.headers["upload-offset"]) == (200, str(len(VIDEO)))
    assert "mien-analysis" not in waiting.headers
    redis_server.start()
    assert analysis_of(frail_gateway, upload)["sha256"] == hashlib.sha256(VIDEO).hexdigest()


class Killed(BaseException):
    """A gateway ends here, in a test."""


STEPS = ["Uploads.seal", "Uploads.hand_over", "Videos.accept", "GatewayQueue.submit", "Uploads.save"]
OWNERS = {"Uploads": Uploads, "Videos": Videos, "GatewayQueue": GatewayQueue}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_gateway_that_dies_at_any_step_leaves_one_analysis(
    tmp_path: Path, redis_url: str, step: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(die_and_go_on(tmp_path, redis_url, step, when, monkeypatch))


async def die_and_go_on(tmp_path: Path, redis_url: str, step: str, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads, videos, queue = Uploads(tmp_path), Videos(tmp_path), GatewayQueue(redis_url)
    videos.prepare()
    uploads.prepare()
    upload = record.new_upload(tenant="public", length=len(VIDEO), metadata={})
    uploads.create(upload)
    (tmp_path / "uploads" / upload.id / "bytes").write_bytes(VIDEO)
    owner, name = OWNERS[step.partition(".")[0]], step.partition(".")[2]
    real = getattr(owner, name)

    def killing(*args: Any) -> Any:
        if when == "after":
            real(*args)
        raise Killed

    async def killing_async(*args: Any) -> Any:
        if when == "after":
            await real(*args)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, killing_async if owner is GatewayQueue else killing)
        with pytest.raises(Killed):
            await Finisher(uploads, videos=videos, queue=queue).finish(upload)
    again = uploads.get(upload.id, "public")
    assert uploads.offset(again) == len(VIDEO)
    done = await Finisher(uploads, videos=videos, queue=queue).finish(again)
    assert done.finished
    assert [job.sha256 for job in (await queue.list()).jobs] == [hashlib.sha256(VIDEO).hexdigest()]
    assert videos.video(upload.job_id).read_bytes() == VIDEO
    await queue.close()


def test_uploads_that_cannot_be_finished_keep_no_other_waiting(tmp_path: Path, redis_url: str) -> None:
    asyncio.run(tend_one_among_others(tmp_path, redis_url))


async def tend_one_among_others(tmp_path: Path, redis_url: str) -> None:
    uploads, videos = Uploads(tmp_path), Videos(tmp_path)
    queue = GatewayQueue(redis_url, limits=Limits(tenant_jobs=1))
    videos.prepare()
    uploads.prepare()
    for number, tenant in enumerate(["broken", "greedy", "greedy", "other"]):
        upload = record.new_upload(tenant=tenant, length=len(VIDEO), metadata={}).model_copy(update={"id": f"up_{number:032x}"})
        uploads.create(upload)
        (tmp_path / "uploads" / upload.id / "bytes").write_bytes(VIDEO)
    (tmp_path / "analyses" / f"an_{0:032x}").mkdir()
    (tmp_path / "analyses" / f"an_{0:032x}" / "manifest.json").write_text('{"from": "the future"}')
    tending = asyncio.create_task(Finisher(uploads, videos=videos, queue=queue).tend())
    try:
        async with asyncio.timeout(60):
            while [upload.finished for upload in uploads.all()] != [False, True, False, True]:
                assert not tending.done()
                await asyncio.sleep(0.02)
        assert {job.tenant for job in (await queue.list()).jobs} == {"greedy", "other"}
    finally:
        tending.cancel()
        await queue.close()


# --- the end of an upload --------------------------------------------------------------------------------------------


def test_an_upload_that_is_given_up_is_gone_and_its_analysis_is_not(gateway: Gateway) -> None:
    half, whole = begin(gateway), begin(gateway)
    send(gateway, half, 0, VIDEO[:10])
    analysis = send(gateway, whole, 0, VIDEO).headers["mien-analysis"]
    for upload, became in ((half, None), (whole, analysis)):
        given_up = gateway.http.delete(upload, headers=TUS)
        assert (given_up.status_code, given_up.headers.get("mien-analysis")) == (204, became)
        assert head(gateway, upload).status_code == 404
        assert gateway.http.delete(upload, headers=TUS).status_code == 404
    assert list((gateway.data / "uploads").iterdir()) == []
    assert gateway.get(analysis)["state"] == "queued"


def test_an_upload_is_removed_when_its_time_is_over(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = begin(gateway)
    send(gateway, upload, 0, VIDEO[:10])
    later = record.now_ms() + record.LIVES_MS
    for module in (record, store):
        monkeypatch.setattr(module, "now_ms", lambda: later)
    assert head(gateway, upload).status_code == 404
    Uploads(gateway.data).sweep()
    assert gateway.files() == []


def test_a_tenant_opens_so_many_uploads_and_no_more(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_OPEN", 2)
    first = begin(gateway)
    begin(gateway)
    refused = gateway.http.post("/v1/uploads", headers={**TUS, "Upload-Length": "5"})
    assert (code(refused, 429), refused.json()["quota"]) == ("quota-exceeded", "open-uploads")
    send(gateway, first, 0, VIDEO)
    begin(gateway)


def test_another_tenants_upload_is_unknown(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    uploads.prepare()
    upload = record.new_upload(tenant="one", length=5, metadata={})
    uploads.create(upload)
    assert uploads.get(upload.id, "one") == upload
    with pytest.raises(store.UploadNotFound):
        uploads.get(upload.id, "two")


def test_a_first_request_that_is_cut_off_leaves_nothing_and_one_line(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    lines = "POST /v1/uploads HTTP/1.1\r\nHost: mien\r\nTus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\n"
    with caplog.at_level(logging.INFO), gateway.connect() as connection:
        connection.sendall(f"{lines}Upload-Length: 5000\r\nContent-Length: 5000\r\n\r\n".encode() + b"x" * 1000)
        wait_until(lambda: gateway.files() != [])
        connection.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: gateway.files() == [])
        wait_until(lambda: any(line.message == "request" for line in caplog.records))
    assert [line.message for line in caplog.records if line.name.startswith(("services", "uvicorn", "asyncio"))] == ["request"]


def test_a_record_holds_nothing_but_what_is_needed() -> None:
    assert set(Upload.model_fields) == {
        "id",
        "tenant",
        "length",
        "metadata",
        "request_id",
        "traceparent",
        "expires_ms",
        "sha256",
        "finished",
    }


def test_an_answer_can_be_read_from_a_connection_that_goes_on(gateway: Gateway) -> None:
    """A HEAD has no body, whatever its headers say, so the next request on the connection is understood."""
    upload = begin(gateway)
    request = f"HEAD {upload} HTTP/1.1\r\nHost: mien\r\nTus-Resumable: 1.0.0\r\n\r\n".encode()
    with gateway.connect() as connection:
        connection.sendall(request)
        assert b"upload-offset: 0" in connection.recv(4096).lower()
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: mien\r\n\r\n")
        assert read_answer(connection)[0] == 200
