"""Traces: a span for each request and one for each of its stages, in OpenTelemetry's words.

The libraries are an extra. A request is told of when it has ended, so that nothing is done for its trace while it runs.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

TRACE_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C's header of that name."""

FAILURES = frozenset({"internal", "overloaded", "draining", "model_not_ready", "deadline_exceeded"})
"""Codes by which the server fails, not its caller."""


@dataclass(frozen=True, slots=True)
class Traced:
    """One request that has just ended, ``seconds`` after it began. ``stages`` took so many seconds, one after the other."""

    name: str
    seconds: float
    code: str
    attributes: Mapping[str, str | int | Sequence[str]] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)
    parts: Sequence["Traced"] = ()


class Tracing(Protocol):
    """Where traces go."""

    def record(self, request: Traced, sent: Mapping[str, str]) -> str:
        """The id of its trace, or "". ``sent``: the caller's headers or metadata, W3C's ``traceparent`` among them where there is one."""
        ...

    def stop(self) -> None:
        """Send what is not sent yet. Blocks."""
        ...


class PassedOn:
    """Nothing is sent; the caller's own trace is only named in logs and exemplars."""

    def record(self, request: Traced, sent: Mapping[str, str]) -> str:
        """See ``Tracing``."""
        found = TRACE_PARENT.fullmatch(sent.get("traceparent", ""))
        return found[1] if found else ""

    def stop(self) -> None:
        """See ``Tracing``."""


class Spans:
    """Sends spans over OTLP. Where to, which of them and under which name is told by OpenTelemetry's own variables, ``OTEL_…``."""

    def __init__(self, version: str, processor: Any = None) -> None:
        """``processor`` takes the spans in place of OTLP. Errors: ImportError where the libraries are not here."""
        from opentelemetry import trace  # noqa: PLC0415 (an extra)
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        own = Resource({"service.name": "paliserve", "service.version": version})
        self._provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
        self._provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("paliserve", version)
        self._propagator = TraceContextTextMapPropagator()
        self._trace = trace

    def record(self, request: Traced, sent: Mapping[str, str]) -> str:
        """See ``Tracing``."""
        return self._span(request, self._propagator.extract(sent), self._trace.SpanKind.SERVER, time.time_ns())

    def stop(self) -> None:
        """See ``Tracing``."""
        self._provider.shutdown()

    def _span(self, request: Traced, context: Any, kind: Any, ended: int) -> str:
        began = ended - int(1e9 * request.seconds)
        span = self._tracer.start_span(request.name, context, kind, request.attributes, start_time=began)
        if request.code != "ok":
            span.set_attribute("error.type", request.code)
        if request.code in FAILURES:
            span.set_status(self._trace.StatusCode.ERROR)
        inside = self._trace.set_span_in_context(span)
        at = began
        for name, seconds in request.stages.items():
            stage = self._tracer.start_span(name, inside, start_time=at)
            at += int(1e9 * seconds)
            stage.end(at)
        for part in request.parts:
            self._span(part, inside, self._trace.SpanKind.INTERNAL, ended)
        span.end(ended)
        return self._trace.format_trace_id(span.get_span_context().trace_id)
