"""`/v1/runs` and `/v1/stores` as clients meet them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.jobs import JobState
from tests.random_release import write_random_release
from tests.tiny_runs import tiny_plan
from tests.training_service.conftest import Service
from training.plan import Source

UNKNOWN = "tr_" + "0" * 32
TINY = json.loads(tiny_plan().model_dump_json(exclude_defaults=True))


def refused(service: Service, body: Any, status: int = 422) -> list[tuple[str, str]]:
    """Which fields of a plan are refused, and why."""
    before = len(service.runs.all())
    problem = service.post("/v1/runs", body, status=status)
    assert (problem["code"], len(service.runs.all())) == ("validation-failed", before)
    return [(error["field"], error["code"]) for error in problem["errors"]]


def test_a_plan_that_is_not_one_is_refused_field_by_field(lasting_service: Service) -> None:
    assert refused(lasting_service, {"name": "Bad Name", "labelled": []}) == [
        ("body.name", "string_pattern_mismatch"),
        ("body.labelled", "too_short"),
    ]
    assert refused(lasting_service, {**TINY, "raunds": 2}) == [("body.raunds", "extra_forbidden")]
    assert refused(lasting_service, {**TINY, "confidence": 2}) == [("body.confidence", "less_than")]
    assert refused(lasting_service, None) == [("body", "missing")]


@pytest.mark.parametrize(
    "name",
    [
        "elsewhere",
        "",
        ".",
        "..",
        "../crops/painted",
        "/etc",
        "painted/..",
        "painted/../../outside",
        "painted\0",
        "link",
        "painted/store.json",
    ],
)
def test_a_store_that_is_not_in_the_folder_is_unknown(lasting_service: Service, name: str) -> None:
    outside, link = lasting_service.home / "outside", lasting_service.home / "crops" / "link"
    if not outside.exists():
        (lasting_service.home / "crops" / "painted").rename(outside)
        (lasting_service.home / "crops" / "painted").mkdir()
        for path in outside.iterdir():
            (lasting_service.home / "crops" / "painted" / path.name).write_bytes(path.read_bytes())
        link.symlink_to(outside)
    body = {**TINY, "labelled": [{"store": name}], "unlabelled": [{"store": "painted"}, {"store": name}], "frozen": ["judge", name]}
    assert refused(lasting_service, body) == [
        ("body.labelled.0.store", "unknown_store"),
        ("body.unlabelled.1.store", "unknown_store"),
        ("body.frozen.1", "unknown_store"),
    ]


def test_a_teacher_is_a_published_release_and_nothing_else(lasting_service: Service) -> None:
    write_random_release(lasting_service.home / "private" / "mien_000001")
    (lasting_service.home / "models").mkdir(exist_ok=True)
    for teacher in ("mien_000009", "../private/mien_000001", str(lasting_service.home / "private" / "mien_000001")):
        assert refused(lasting_service, {**TINY, "teacher": teacher}) == [("body.teacher", "unknown_release")]


def test_a_body_that_is_no_json_or_too_large_is_refused(lasting_service: Service) -> None:
    def answer(content: bytes) -> tuple[int, str]:
        response = lasting_service.http.post("/v1/runs", content=content, headers={"Content-Type": "application/json"})
        return response.status_code, response.json()["code"]

    assert answer(b"{") == (422, "validation-failed")
    assert answer(b" " * (1024 * 1024 + 1)) == (413, "body-too-large")


@pytest.mark.parametrize("run_id", [UNKNOWN, "tr_", "..%2f" + UNKNOWN, "pb_" + "0" * 32])
@pytest.mark.parametrize(
    ("method", "rest"),
    [("GET", ""), ("GET", "/record"), ("GET", "/report"), ("GET", "/events"), ("POST", ":cancel"), ("POST", ":resume"), ("DELETE", "")],
)
def test_an_unknown_run_is_not_found(lasting_service: Service, method: str, rest: str, run_id: str) -> None:
    response = lasting_service.http.request(method, f"/v1/runs/{run_id}{rest}")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")
    assert response.json()["code"] in {"run-not-found", "not-found"}


def test_runs_are_listed_a_page_at_a_time_newest_first(lasting_service: Service) -> None:
    ids = []
    for _ in range(5):  # by another process, as the command line does, and over before anybody works on them
        run = lasting_service.runs.accept(tiny_plan().model_copy(update={"labelled": (Source(store=Path("nowhere")),)}))
        ids.append(run.id)
        lasting_service.runs.cancel(run.id)
    seen, page = [], lasting_service.get("/v1/runs", page_size=2, state="canceled")
    seen += page["runs"]
    while token := page["next_page_token"]:
        page = lasting_service.get("/v1/runs", page_size=2, page_token=token, state="canceled")
        assert len(page["runs"]) <= 2
        seen += page["runs"]
    assert [run["id"] for run in seen][:5] == ids[::-1]
    assert lasting_service.get("/v1/runs", state="running")["runs"] == []
    assert lasting_service.http.get("/v1/runs", params={"page_token": "not ours"}).json()["code"] == "validation-failed"


def test_what_does_not_fit_a_runs_state_is_a_conflict(lasting_service: Service) -> None:
    run = lasting_service.runs.accept(tiny_plan())
    lasting_service.runs.cancel(run.id)
    for path in ("record", "report"):
        problem = lasting_service.http.get(f"/v1/runs/{run.id}/{path}")
        assert (problem.status_code, problem.json()["code"], problem.json()["state"]) == (409, "run-conflict", "canceled")
    assert lasting_service.post(f"/v1/runs/{run.id}:cancel")["state"] == "canceled"
    assert lasting_service.get(f"/v1/runs/{run.id}")["links"]["resume"] == f"/v1/runs/{run.id}:resume"
    assert lasting_service.http.delete(f"/v1/runs/{run.id}").status_code == 204
    assert lasting_service.http.get(f"/v1/runs/{run.id}").status_code == 404


def test_a_run_that_succeeded_can_neither_be_canceled_nor_resumed(lasting_service: Service) -> None:
    run = lasting_service.runs.accept(tiny_plan())
    with lasting_service.runs.hold(run.id):  # before the service can
        lasting_service.runs.begin(run.id)
        lasting_service.runs.succeed(run.id)
    for verb in ("cancel", "resume"):
        assert lasting_service.post(f"/v1/runs/{run.id}:{verb}", status=409)["state"] == JobState.SUCCEEDED


def test_stores_say_what_they_hold(lasting_service: Service) -> None:
    stores = {store["store"]: store for store in lasting_service.get("/v1/stores")["stores"]}
    assert {"judge", "painted", "strangers"} <= stores.keys()
    assert (stores["judge"]["samples"], stores["judge"]["labels"]["happy"], stores["judge"]["unlabelled"]) == (28, 4, 0)
    assert (stores["strangers"]["labels"], stores["strangers"]["unlabelled"], stores["strangers"]["licence"]) == ({}, 28, "CC0")


def test_readiness_names_what_is_missing_and_liveness_asks_for_nothing(lasting_service: Service) -> None:
    problem = lasting_service.http.get("/readyz")
    assert (problem.status_code, problem.json()["dependency"]) == (503, "redis,triton")
    assert {name: check["ok"] for name, check in problem.json()["checks"].items()} == {
        "storage": True,
        "crops": True,
        "redis": False,
        "triton": False,
    }
    assert lasting_service.get("/healthz") == {"status": "alive"}
    metrics = lasting_service.http.get("/metrics").text
    assert 'mien_training_runs{state="queued"} 0.0' in metrics
    assert 'mien_training_requests_total{method="GET",route="/healthz",status="200"}' in metrics


def test_every_line_of_the_log_is_json_and_none_is_about_a_bug(lasting_service: Service) -> None:
    lines = [json.loads(line) for line in lasting_service.log.read_text().splitlines()]
    assert {line["service"] for line in lines} == {"training"}
    assert [line for line in lines if line["level"] == "error" or "traceback" in line] == []


def test_nothing_heavy_is_imported() -> None:
    heavy = ["torch", "torchvision", "numpy", "PIL"]
    script = f"import sys, services.training.__main__; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.strip() == "[]"
