"""Following an analysis to its end: state, list, result, cancel, delete."""

import os
import time
from typing import Any

import pytest
import redis

from services.gateway.deletion import by_kind
from services.gateway.schemas import ResultPage
from shared.errors import MediaMissing, MediaNoVideoStream
from shared.jobs import Failure, Progress, Timings
from shared.queue import Beat
from shared.videos import Videos, sizes
from tests.gateway.conftest import Gateway
from tests.gateway.results import WINDOW_MS, put_together, result

UNKNOWN = "an_00000000000000000000000000000000"


def problem(response: Any, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert (body["status"], body["code"], body["type"]) == (status, code, f"/problems/{code}")
    return body


# --- one analysis ----------------------------------------------------------------------------------------------------


def test_progress_and_end_are_shown(gateway: Gateway) -> None:
    here = gateway.post()["links"]["analysis"]
    lease = gateway.claim()
    progress = {"stage": "analysing", "frames_done": 3, "frames_total": 10, "percent": 30, "seconds_left": 4}
    gateway.worker.report(lease, Progress.model_validate(progress))
    running = gateway.http.get(here)
    assert "retry-after" in running.headers
    assert running.json()["state"] == "running"
    assert running.json()["progress"] == progress
    gateway.worker.fail(lease, Failure.of(MediaNoVideoStream("streams found: audio")))
    failed = gateway.http.get(here)
    assert "retry-after" not in failed.headers
    assert failed.json()["failure"]["code"] == "media-no-video-stream"
    assert failed.json()["links"] == {
        "analysis": here,
        "windows": f"{here}/windows",
        "events": f"{here}/events",
        "results": None,
        "cancel": None,
        "model": None,
    }


def test_timings_and_the_way_to_the_result_come_with_success(gateway: Gateway) -> None:
    here = gateway.post()["links"]["analysis"]
    lease = gateway.claim()
    gateway.worker.pin(lease, 7)
    assert gateway.worker.succeed(lease, Timings(total=5))
    assert gateway.get(here)["timings"]["total"] == 5
    assert gateway.get(here)["links"] == {
        "analysis": here,
        "windows": f"{here}/windows",
        "events": f"{here}/events",
        "results": f"{here}/results",
        "cancel": None,
        "model": "/v1/models/7",
    }


@pytest.mark.parametrize("name", [UNKNOWN, "an_", "nope", "%2e%2e", UNKNOWN.upper(), UNKNOWN + "0", "an_" + "é" * 32, "x" * 5000])
@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("GET", "/results"), ("GET", "/windows"), ("POST", ":cancel"), ("DELETE", "")])
def test_ids_that_were_never_given_out_are_unknown(lasting_gateway: Gateway, method: str, suffix: str, name: str) -> None:
    problem(lasting_gateway.http.request(method, f"/v1/analyses/{name}{suffix}"), 404, "job-not-found")


# --- list ------------------------------------------------------------------------------------------------------------


def test_the_list_is_newest_first_and_pages_through_everything_once(gateway: Gateway) -> None:
    posted = []
    for _ in range(5):
        posted.append(gateway.post()["id"])
        time.sleep(0.002)  # ids are random: within one millisecond the order would be, too
    seen, token = [], None
    while True:
        page = gateway.get("/v1/analyses", page_size=2, **({"page_token": token} if token else {}))
        assert len(page["analyses"]) <= 2
        seen += [analysis["id"] for analysis in page["analyses"]]
        token = page["next_page_token"]
        if token is None:
            break
    assert seen == posted[::-1]


def test_the_list_can_be_of_one_state(gateway: Gateway) -> None:
    first, second = gateway.post()["id"], gateway.post()["id"]
    done = gateway.succeed().job.id
    assert [analysis["id"] for analysis in gateway.get("/v1/analyses", state="succeeded")["analyses"]] == [done]
    assert {analysis["id"] for analysis in gateway.get("/v1/analyses", state="queued")["analyses"]} == {first, second} - {done}
    assert gateway.get("/v1/analyses", state="failed") == {"analyses": [], "next_page_token": None}


@pytest.mark.parametrize("size", [0, 501, 10**9])
def test_any_page_size_from_zero_up_will_do(gateway: Gateway, size: int) -> None:
    gateway.post()
    assert len(gateway.get("/v1/analyses", page_size=size)["analyses"]) == 1


@pytest.mark.parametrize("query", ["page_size=-1", "page_size=x", "page_token=!", "page_token=%C3%A9", "state=sleeping"])
def test_a_bad_list_parameter_is_named(lasting_gateway: Gateway, query: str) -> None:
    body = problem(lasting_gateway.http.get(f"/v1/analyses?{query}"), 422, "validation-failed")
    assert [error["field"] for error in body["errors"]] == ["query." + query.partition("=")[0]]


# --- result ----------------------------------------------------------------------------------------------------------


def test_a_result_comes_in_pages_that_are_stable_and_complete(gateway: Gateway) -> None:
    job_id = gateway.post()["id"]
    whole = result(job_id, 700, 100, 400)
    gateway.succeed(whole)
    here = f"/v1/analyses/{job_id}/results"
    pages, token = [], None
    while True:
        params = {"page_token": token} if token else {}
        response = gateway.http.get(here, params=params)
        assert response.text == gateway.http.get(here, params=params).text
        assert len(response.content) < 1024 * 1024
        pages.append(ResultPage.model_validate_json(response.content))
        token = pages[-1].next_page_token
        if token is None:
            break
    assert [sum(len(track.timeline) for track in page.tracks) for page in pages] == [500, 500, 200]
    assert put_together(list(pages)) == {track.track_id: list(track.timeline) for track in whole.tracks}
    assert {(page.warnings, page.disclosure, page.media, page.coverage, page.model) for page in map(hashable, pages)} == {
        (whole.warnings, whole.disclosure, *(part.model_dump_json() for part in (whole.media, whole.coverage, whole.model)))
    }


def hashable(page: ResultPage) -> ResultPage:
    return page.model_copy(update={name: getattr(page, name).model_dump_json() for name in ("media", "coverage", "model")})


def test_a_page_of_a_result_is_at_most_a_thousand_windows(gateway: Gateway) -> None:
    job_id = gateway.post()["id"]
    gateway.succeed(result(job_id, 1200))
    page = gateway.get(f"/v1/analyses/{job_id}/results", page_size=5000)
    assert page["links"] == {"analysis": f"/v1/analyses/{job_id}", "model": "/v1/models/1"}
    assert len(page["tracks"][0]["timeline"]) == 1000
    assert page["next_page_token"]


def test_a_video_without_a_face_has_a_result_without_tracks(gateway: Gateway) -> None:
    job_id = gateway.post()["id"]
    gateway.succeed(result(job_id))
    assert gateway.get(f"/v1/analyses/{job_id}/results")["tracks"] == []


@pytest.mark.parametrize("query", ["page_size=-1", "page_token=their.own"])
def test_a_bad_result_parameter_is_named(lasting_gateway: Gateway, query: str) -> None:
    body = problem(lasting_gateway.http.get(f"/v1/analyses/{UNKNOWN}/results?{query}"), 422, "validation-failed")
    assert [error["field"] for error in body["errors"]] == ["query." + query.partition("=")[0]]


def test_a_result_asked_for_too_early_says_when_to_come_back(gateway: Gateway) -> None:
    here = gateway.post()["links"]["analysis"]
    for state in ("queued", "running"):
        response = gateway.http.get(f"{here}/results")
        body = problem(response, 409, "result-not-ready")
        assert (body["state"], body["retryable"]) == (state, True)
        assert int(response.headers["retry-after"]) > 0
        gateway.worker.claim()


def test_a_failed_analysis_says_why_it_has_no_result(gateway: Gateway) -> None:
    here = gateway.post()["links"]["analysis"]
    gateway.worker.fail(gateway.claim(), Failure.of(MediaNoVideoStream("streams found: audio")))
    body = problem(gateway.http.get(f"{here}/results"), 409, "state-conflict")
    assert (body["state"], body["retryable"]) == ("failed", False)
    assert body["failure"]["code"] == "media-no-video-stream"


def test_a_canceled_analysis_has_no_result(gateway: Gateway) -> None:
    here = gateway.post()["links"]["analysis"]
    gateway.http.post(f"{here}:cancel")
    assert problem(gateway.http.get(f"{here}/results"), 409, "state-conflict")["state"] == "canceled"


def test_a_result_that_is_no_longer_there_is_gone(gateway: Gateway) -> None:
    here = gateway.post()["links"]["analysis"]
    gateway.succeed()
    problem(gateway.http.get(f"{here}/results"), 410, "result-gone")


def test_a_result_is_read_from_the_disk_once_for_all_its_pages(gateway: Gateway) -> None:
    job_id = gateway.post()["id"]
    token = gateway.succeed(result(job_id, 20)).token
    here, path = f"/v1/analyses/{job_id}/results", gateway.data / "analyses" / job_id / f"result-{token}.json"
    first = gateway.get(here, page_size=10)
    written = path.stat()
    path.write_text("{}")
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
    second = gateway.get(here, page_size=10, page_token=first["next_page_token"])
    assert second["tracks"][0]["timeline"][0]["start_ms"] == 10 * WINDOW_MS
    os.utime(path)
    problem(gateway.http.get(here), 500, "result-unreadable")


# --- cancel and delete -----------------------------------------------------------------------------------------------


def test_a_queued_analysis_is_canceled_at_once_and_asking_again_is_fine(gateway: Gateway) -> None:
    here = gateway.post()["links"]["analysis"]
    canceled = gateway.http.post(f"{here}:cancel")
    assert canceled.status_code == 200
    assert canceled.json()["state"] == "canceled"
    assert gateway.worker.claim() is None
    assert gateway.http.post(f"{here}:cancel").json() == canceled.json()


def test_an_analysis_that_has_succeeded_cannot_be_canceled(gateway: Gateway) -> None:
    here = gateway.post()["links"]["analysis"]
    gateway.succeed()
    assert problem(gateway.http.post(f"{here}:cancel"), 409, "state-conflict")["state"] == "succeeded"


def test_a_running_analysis_is_asked_to_stop(gateway: Gateway) -> None:
    here = gateway.post()["links"]["analysis"]
    lease = gateway.claim()
    response = gateway.http.post(f"{here}:cancel")
    assert (response.status_code, response.json()["state"], response.json()["cancel_requested"]) == (200, "running", True)
    assert "retry-after" in response.headers
    assert gateway.worker.beat(lease) is Beat.CANCEL


def test_deleting_removes_video_manifest_result_and_record(gateway: Gateway) -> None:
    posted = gateway.post()
    gateway.succeed(result(posted["id"], 3))
    here = posted["links"]["analysis"]
    on_disk = by_kind(sizes(gateway.data / "analyses" / posted["id"]))
    response = gateway.http.delete(here)
    receipt = response.raise_for_status().json()
    assert (receipt["id"], receipt["removed"], receipt["bytes"]) == (posted["id"], on_disk, sum(on_disk.values()))
    assert set(on_disk) == {"video", "results", "records"}
    assert posted["created_ms"] <= receipt["deleted_ms"] <= time.time() * 1000
    assert gateway.settles_to_nothing()
    for again in (
        gateway.http.delete(here),
        gateway.http.get(here),
        gateway.http.get(f"{here}/results"),
        gateway.http.post(f"{here}:cancel"),
    ):
        problem(again, 410, "gone")


def test_a_deleted_analysis_that_runs_stops_and_its_late_result_is_refused(gateway: Gateway) -> None:
    posted = gateway.post()
    lease = gateway.claim()
    assert gateway.http.delete(posted["links"]["analysis"]).status_code == 200
    assert gateway.worker.beat(lease) is not Beat.HELD
    with pytest.raises(MediaMissing):
        Videos(gateway.data).write_result(result(posted["id"], 3))
    assert gateway.settles_to_nothing()


def test_a_delete_that_failed_halfway_can_be_sent_again(frail_gateway: Gateway, redis_server: Any) -> None:
    here = frail_gateway.post()["links"]["analysis"]
    redis_server.kill()
    problem(frail_gateway.http.delete(here), 503, "dependency-unavailable")
    assert frail_gateway.files() == []
    redis_server.start()
    assert frail_gateway.http.delete(here).status_code == 200
    assert frail_gateway.settles_to_nothing()


def test_files_that_outlived_their_record_can_be_deleted(gateway: Gateway, redis_url: str) -> None:
    here = gateway.post()["links"]["analysis"]
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    assert gateway.http.delete(here).status_code == 200
    assert gateway.files() == []
    problem(gateway.http.delete(here), 404, "job-not-found")


def test_a_deletion_that_the_disk_refuses_is_not_called_done(gateway: Gateway) -> None:
    here = gateway.post()["links"]["analysis"]
    (gateway.data / "incoming").rmdir()
    assert problem(gateway.http.delete(here), 503, "dependency-unavailable")["dependency"] == "storage"
    (gateway.data / "incoming").mkdir()
    assert gateway.http.delete(here).status_code == 200
    assert gateway.settles_to_nothing()
