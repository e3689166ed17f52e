"""Spans that hang together, over real HTTP; and nothing at all where nobody asked."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from shared.tracing import Untraced, traceparent_of, tracing_to
from shared.tracing_otlp import GIVES_UP_S
from tests.collector import Collector

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector().listening() as collector:
        yield collector


def test_spans_of_two_services_hang_under_the_one_that_was_given(collector: Collector) -> None:
    gateway, worker = (tracing_to(collector.url, service=name) for name in ("gateway", "preprocess"))
    with gateway.span("request", parent=PARENT, request_id="r1") as request:
        request.tell("POST /v1/analyses", status=202)
    worker.record("queue", parent=request.traceparent, began_ms=1000, ended_ms=3500)
    with pytest.raises(ZeroDivisionError), worker.span("attempt", parent=request.traceparent, job_id="an_1"):
        raise ZeroDivisionError("a secret")
    gateway.close()
    worker.close()
    seen = {span.name: span for span in collector.spans}
    assert {span.trace for span in collector.spans} == {"a" * 32}
    top = seen["POST /v1/analyses"]
    assert (top.service, top.parent, top.attributes) == ("mien-gateway", "b" * 16, {"request_id": "r1", "status": 202})
    assert (seen["queue"].service, seen["queue"].parent) == ("mien-preprocess", top.id)
    assert (seen["queue"].began_ms, seen["queue"].ended_ms) == (1000, 3500)
    assert (seen["attempt"].parent, seen["attempt"].failed) == (top.id, True)
    assert "a secret" not in repr(collector.spans)
    assert request.traceparent == f"00-{top.trace}-{top.id}-01"


def test_without_a_parent_a_trace_begins(collector: Collector) -> None:
    tracing = tracing_to(f"{collector.url}/", service="gateway")
    for _ in range(2):
        with tracing.span("request"):
            pass
    tracing.close()
    assert len({span.trace for span in collector.spans}) == 2
    assert {span.parent for span in collector.spans} == {""}


def test_a_collector_that_is_away_costs_nothing_but_spans() -> None:
    tracing = tracing_to("http://127.0.0.1:9", service="gateway")
    with tracing.span("request") as span:
        assert traceparent_of(span.traceparent)
    began = time.monotonic()
    tracing.close()
    assert time.monotonic() - began < 2 * GIVES_UP_S


def test_who_did_not_ask_hands_on_what_it_was_given() -> None:
    tracing = tracing_to("", service="gateway")
    assert isinstance(tracing, Untraced)
    with tracing.span("request", parent=PARENT) as span:
        span.tell("GET /", status=200)
        assert span.traceparent == PARENT
    with tracing.span("request") as span:
        assert span.traceparent == ""


@pytest.mark.parametrize("header", ["", "00-1-2-3", f"{PARENT}-x", PARENT.upper(), "'; DROP TABLE"])
def test_a_header_that_is_not_one_is_not_handed_on(header: str) -> None:
    assert traceparent_of(header) == ""
    assert traceparent_of(PARENT) == PARENT


@pytest.mark.parametrize("module", ["services.gateway.__main__", "services.training.app"])
def test_nothing_is_imported_that_nobody_asked_for(module: str) -> None:
    program = f"import sys, {module}; from shared.tracing import tracing_to; tracing_to('', service='x'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ).stdout.split()
    assert not [name for name in loaded if name.startswith(("opentelemetry.sdk.trace", "opentelemetry.exporter"))]
