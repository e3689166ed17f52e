"""Spans sent to a collector, with OpenTelemetry's SDK. Imported only where somebody asked for traces."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span as OpenTelemetrySpan
from opentelemetry.trace import Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.tracing import Attribute

PROPAGATOR: Final = TraceContextTextMapPropagator()
GIVES_UP_S: Final = 3.0
"""On a batch, tries included: a service that stops waits no longer for a collector that is away."""
NS_PER_MS: Final = 1_000_000


class OtlpSpan:
    """One of theirs."""

    def __init__(self, span: OpenTelemetrySpan) -> None:
        self._span = span
        carrier: dict[str, str] = {}
        PROPAGATOR.inject(carrier, set_span_in_context(span, Context()))
        self.traceparent = carrier["traceparent"]

    def tell(self, name: str, **attributes: Attribute) -> None:
        self._span.update_name(name)
        self._span.set_attributes(attributes)


class Otlp:
    """Collects spans, and sends them in batches from a thread of its own. A collector that is away costs spans, and nothing else.

    What the environment says in OpenTelemetry's own variables about headers, batches and sampling holds.
    """

    def __init__(self, endpoint: str, *, service: str) -> None:
        self._provider = TracerProvider(resource=Resource.create({"service.name": f"mien-{service}"}))
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=GIVES_UP_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("mien")

    @contextmanager
    def span(self, name: str, *, parent: str = "", **attributes: Attribute) -> Iterator[OtlpSpan]:
        span = self._tracer.start_span(name, context=context_of(parent), attributes=attributes)
        try:
            yield OtlpSpan(span)
        except Exception as error:
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))  # its text may say more than a trace should
            raise
        finally:
            span.end()

    def record(self, name: str, *, parent: str, began_ms: int, ended_ms: int, **attributes: Attribute) -> None:
        span = self._tracer.start_span(name, context=context_of(parent), attributes=attributes, start_time=began_ms * NS_PER_MS)
        span.end(end_time=ended_ms * NS_PER_MS)

    def close(self) -> None:
        self._provider.shutdown()


def context_of(traceparent: str) -> Context:
    return PROPAGATOR.extract({"traceparent": traceparent} if traceparent else {}, Context())
