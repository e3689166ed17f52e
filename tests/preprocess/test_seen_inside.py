"""What can be seen of a worker from outside: traces from the upload on, log lines with names, figures for Prometheus."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from services.gateway.uploads import UploadLimits
from services.preprocess import metrics
from shared.errors import MediaCorrupt, QueueUnavailable
from shared.jobs import Timings
from shared.results import Coverage, Enhancement, Media, ModelInfo, Result
from shared.tracing import tracing_to
from tests.collector import Collector
from tests.gateway.conftest import running
from tests.preprocess.test_worker import Stage, eventually, staged

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.fixture
def stage(tmp_path: Path, redis_url: str) -> Iterator[Stage]:
    yield from staged(Stage(tmp_path, redis_url))


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector().listening() as collector:
        yield collector


def test_a_trace_leads_from_the_upload_to_the_result(stage: Stage, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    tracing = tracing_to(collector.url, service="gateway")
    with running(redis_url=stage.url, data=stage.folder / "data", limits=UploadLimits(max_bytes=1000), tracing=tracing) as gateway:
        answer = gateway.http.post(
            "/v1/analyses", content=b"take 0.5", headers={"Content-Type": "video/mp4", "traceparent": PARENT, "X-Request-Id": "r-1"}
        )
        job_id = answer.raise_for_status().json()["id"]
        stage.worker(otlp_endpoint=collector.url)
        assert stage.ended(job_id).state == "succeeded"
    tracing.close()
    eventually(lambda: [span for span in collector.spans if span.name == "attempt"])
    ours = [span for span in collector.spans if span.trace == "a" * 32]
    assert {span.name for span in ours} == {"POST /v1/analyses", "queue", "attempt", "decode"}
    post, queue, attempt, decode = (collector.named(name) for name in ("POST /v1/analyses", "queue", "attempt", "decode"))
    assert [span.parent for span in (post, queue, attempt, decode)] == ["b" * 16, post.id, post.id, attempt.id]
    assert [span.service for span in (post, attempt)] == ["mien-gateway", "mien-preprocess"]
    assert post.attributes == {"request_id": "r-1", "method": "POST", "route": "/v1/analyses", "status": 202}
    assert attempt.attributes == {"request_id": "r-1", "job_id": job_id, "attempt": 1, "outcome": "succeeded", "release": 1}
    assert post.began_ms <= queue.began_ms <= queue.ended_ms <= attempt.ended_ms
    assert attempt.began_ms - 2 <= decode.began_ms < decode.ended_ms <= attempt.ended_ms + 2
    assert 500 <= decode.attributes["busy_ms"] <= decode.ended_ms - decode.began_ms + 2


def test_every_line_about_a_job_names_it_and_its_request(stage: Stage) -> None:
    jobs = {stage.submit(video): video for video in ("take 0.2", "refuse", "raise", "miss")}
    stage.worker(inference_deadline_s=0)
    for job_id in jobs:
        stage.ended(job_id)
    lines = [line for line in stage.events() if line["logger"] != "services.preprocess.champion"]  # which is about no job
    assert [line for line in lines if "job_id" not in line] == []
    assert {line["job_id"] for line in lines} == set(jobs)
    assert all(line["request_id"] == f"r-{line['job_id']}" for line in lines)


def figure(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_what_a_result_says_is_counted() -> None:
    names = [("mien_frames_total", "kind", kind) for kind in ("decoded", "sampled", "with_face", "used", "enhanced")]
    names += [
        ("mien_faces_total", "kind", "found"),
        ("mien_faces_total", "kind", "used"),
        ("mien_faces_dropped_total", "reason", "blurred"),
    ]
    names += [("mien_decoded_videos_total", "verdict", "ok"), ("mien_stage_seconds_count", "stage", "detect")]
    before = [figure(name, **{label: value}) for name, label, value in names]
    result = Result(
        id=f"an_{'0' * 32}",
        model=ModelInfo(release=7, preprocess="p1"),
        media=Media(duration_ms=1, width=8, height=8, frames_decoded=50, codec="none", container="none", rotation_degrees=0),
        coverage=Coverage(frames_sampled=16, frames_with_face=12, frames_used=11, faces_found=20, faces_used=18, dropped={"blurred": 2}),
        enhancement=Enhancement(frames=3, method="gamma", luminance_before=0.1, luminance_after=0.3),
        tracks=(),
    )
    metrics.count_result(result, Timings(detect=1500, total=2000))
    grown = [figure(name, **{label: value}) - old for (name, label, value), old in zip(names, before, strict=True)]
    assert grown == [50, 16, 12, 11, 3, 20, 18, 2, 1, 1]


def test_attempts_are_counted_by_release_and_decoders_by_their_verdict() -> None:
    before = figure("mien_attempts_total", outcome="failed", release="7"), figure("mien_decoded_videos_total", verdict="media-corrupt")
    metrics.count_attempt("failed", 0.5, release=7)
    metrics.count_error(MediaCorrupt())
    metrics.count_error(QueueUnavailable())
    after = figure("mien_attempts_total", outcome="failed", release="7"), figure("mien_decoded_videos_total", verdict="media-corrupt")
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1]
    verdicts = {sample.labels["verdict"] for metric in REGISTRY.collect() for sample in metric.samples if "verdict" in sample.labels}
    assert all(re.fullmatch(r"ok|[a-z-]+", verdict) for verdict in verdicts)
    assert "queue-unavailable" not in verdicts
