"""Alive, ready, measured."""

import time
from typing import Any

import pytest
import redis

from tests.gateway.conftest import RAW, Gateway

MODELS = {"mien_000007_frames", "mien_000007_clip"}


def make_ready(gateway: Gateway) -> None:
    gateway.worker.promote("champion", 7)
    gateway.triton.ready |= MODELS


def not_ready(gateway: Gateway) -> dict[str, Any]:
    response = gateway.http.get("/readyz")
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert "retry-after" in response.headers
    body: dict[str, Any] = response.json()
    assert body["code"] == "dependency-unavailable"
    return body


def failed(body: dict[str, Any]) -> set[str]:
    assert body["dependency"] == ",".join(name for name, check in body["checks"].items() if not check["ok"])
    return {name for name, check in body["checks"].items() if not check["ok"]}


def test_alive_and_ready(gateway: Gateway) -> None:
    make_ready(gateway)
    assert gateway.get("/healthz") == {"status": "alive"}
    ready = gateway.get("/readyz")
    assert ready["status"] == "ready"
    assert {name: check["ok"] for name, check in ready["checks"].items()} == {"redis": True, "storage": True, "model": True}


def test_without_a_champion_the_model_is_named(gateway: Gateway) -> None:
    body = not_ready(gateway)
    assert failed(body) == {"model"}
    assert body["checks"]["model"]["detail"] == "no release is champion"


def test_both_graphs_must_be_loaded(gateway: Gateway) -> None:
    make_ready(gateway)
    gateway.triton.ready.remove("mien_000007_clip")
    body = not_ready(gateway)
    assert failed(body) == {"model"}
    assert body["checks"]["model"]["detail"] == "mien_000007_clip is not ready"


def test_a_model_server_that_hangs_costs_two_seconds_and_only_readiness(gateway: Gateway) -> None:
    make_ready(gateway)
    gateway.triton.hang.set()
    started = time.monotonic()
    assert failed(not_ready(gateway)) == {"model"}
    assert time.monotonic() - started < 2.9
    assert gateway.get("/healthz")
    assert gateway.post()["state"] == "queued"


def test_without_redis_redis_is_named_and_the_rest_goes_on(frail_gateway: Gateway, redis_server: Any) -> None:
    make_ready(frail_gateway)
    redis_server.kill()
    body = not_ready(frail_gateway)
    assert failed(body) == {"redis", "model"}  # who is champion is written in Redis
    assert str(redis_server.port) not in str(body)
    assert frail_gateway.get("/healthz")
    assert "mien_queue_jobs{" not in frail_gateway.http.get("/metrics").text
    redis_server.start()
    assert frail_gateway.get("/readyz")["status"] == "ready"


def test_a_redis_that_hangs_is_waited_for_two_seconds(frail_gateway: Gateway, redis_server: Any) -> None:
    redis_server.pause()
    started = time.monotonic()
    assert "redis" in failed(not_ready(frail_gateway))
    assert time.monotonic() - started < 3
    assert frail_gateway.http.post("/v1/analyses", content=b"video", headers=RAW).status_code == 503


def test_a_data_folder_that_is_gone_is_named_without_its_path(gateway: Gateway) -> None:
    make_ready(gateway)
    (gateway.data / "incoming").rmdir()
    body = not_ready(gateway)
    assert failed(body) == {"storage"}
    assert str(gateway.data) not in str(body)


def test_metrics_count_by_route_template_and_hold_no_id(gateway: Gateway) -> None:
    posted = gateway.post()
    gateway.get(posted["links"]["analysis"])
    gateway.http.get("/no/such/place")
    gateway.http.request("BREW", "/healthz")
    text = gateway.http.get("/metrics").text
    assert 'mien_gateway_requests_total{method="POST",route="/v1/analyses",status="202"} 1.0' in text
    assert 'mien_gateway_requests_total{method="GET",route="/v1/analyses/{analysis_id}",status="200"} 1.0' in text
    assert 'mien_gateway_requests_total{method="GET",route="unmatched",status="404"} 1.0' in text
    assert 'method="other"' in text
    assert f"mien_gateway_upload_bytes_total {float(posted['size_bytes'])}" in text
    assert 'mien_queue_jobs{state="queued"} 1.0' in text
    assert posted["id"] not in text
    assert "/no/such/place" not in text


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("appendonly", "no"), ("appendfsync", "everysec"), ("no-appendfsync-on-rewrite", "yes"), ("maxmemory-policy", "allkeys-lru")],
)
def test_a_redis_that_could_lose_jobs_is_not_ready(frail_gateway: Gateway, redis_server: Any, name: str, wrong: str) -> None:
    make_ready(frail_gateway)
    assert frail_gateway.get("/readyz")["status"] == "ready"
    with redis.Redis.from_url(redis_server.url) as client:
        client.config_set(name, wrong)
    body = not_ready(frail_gateway)
    assert failed(body) == {"redis"}
    assert f"{name} is {wrong}, not " in body["checks"]["redis"]["detail"]


def test_problems_are_counted_by_their_code(gateway: Gateway) -> None:
    gateway.http.get("/v1/analyses/an_0")
    gateway.http.post("/v1/analyses", content=b"", headers=RAW)
    text = gateway.http.get("/metrics").text
    assert 'mien_gateway_problems_total{code="job-not-found"} 1.0' in text
    assert 'mien_gateway_problems_total{code="media-empty"} 1.0' in text


def test_how_long_the_oldest_job_waits_can_be_seen(frail_gateway: Gateway, redis_server: Any) -> None:
    posted = frail_gateway.post()
    with redis.Redis.from_url(redis_server.url) as client:
        client.hincrby(f"mien:job:{posted['id']}", "accepted_ms", -60_000)
    assert 'mien_queue_oldest_seconds{state="queued"} 6' in frail_gateway.http.get("/metrics").text
    redis_server.kill()
    assert "mien_queue_oldest_seconds{" not in frail_gateway.http.get("/metrics").text
