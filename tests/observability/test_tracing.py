"""Traces, as OpenTelemetry's own libraries tell them."""

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from service.observability.tracing import PassedOn, Spans, Traced

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SENT = {"traceparent": f"00-{TRACE}-{CALLER}-01"}


def recorded(request: Traced, sent: dict[str, str]) -> tuple[str, list[ReadableSpan]]:
    exporter = InMemorySpanExporter()
    spans = Spans("1.2.3", SimpleSpanProcessor(exporter))
    trace = spans.record(request, sent)
    spans.stop()
    return trace, list(exporter.get_finished_spans())


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def test_a_request_and_its_stages_belong_to_the_callers_trace() -> None:
    request = Traced("POST /v1/detect", 2.0, "ok", {"gen_ai.response.model": "mix-448"}, {"queue": 0.5, "prefill": 1.0, "decode": 0.25})
    trace, found = recorded(request, SENT)
    assert trace == TRACE
    queue, prefill, decode, whole = found
    assert [each.name for each in found] == ["queue", "prefill", "decode", "POST /v1/detect"]
    assert (whole.kind, whole.status.status_code) == (SpanKind.SERVER, StatusCode.UNSET)
    assert whole.parent is not None
    assert f"{whole.parent.span_id:016x}" == CALLER
    assert {f"{each.context.trace_id:032x}" for each in found if each.context} == {TRACE}
    assert all(each.parent is not None and whole.context is not None and each.parent.span_id == whole.context.span_id for each in found[:3])
    assert [seconds(each) for each in found] == pytest.approx([0.5, 1.0, 0.25, 2.0])
    # One behind the other, from the beginning on.
    assert (queue.start_time, prefill.start_time, decode.start_time) == (whole.start_time, queue.end_time, prefill.end_time)
    assert dict(whole.attributes or {}) == {"gen_ai.response.model": "mix-448"}
    assert (whole.resource.attributes["service.name"], whole.resource.attributes["service.version"]) == ("paliserve", "1.2.3")


def test_parts_stand_below_their_request() -> None:
    part = Traced("part read", 0.5, "invalid_image", stages={})
    trace, found = recorded(Traced("POST /v1/batch", 1.0, "ok", parts=[part, part]), {})
    assert len(trace) == 32
    assert int(trace, 16)
    first, second, whole = found
    assert whole.parent is None
    for each in (first, second):
        assert each.parent is not None
        assert whole.context is not None
        assert each.parent.span_id == whole.context.span_id
        # Its caller was wrong: that is no failure of the server's.
        assert (each.attributes or {})["error.type"] == "invalid_image"
        assert each.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("code", ["internal", "overloaded", "deadline_exceeded"])
def test_what_the_server_fails_in_is_an_error(code: str) -> None:
    _, (span,) = recorded(Traced("read", 0.1, code), {})
    assert (span.status.status_code, (span.attributes or {})["error.type"]) == (StatusCode.ERROR, code)


def test_the_operator_names_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "eyes")
    _, (span,) = recorded(Traced("read", 0.1, "ok"), {})
    assert span.resource.attributes["service.name"] == "eyes"


def test_a_caller_who_samples_nothing_is_heeded() -> None:
    trace, found = recorded(Traced("read", 0.1, "ok"), {"traceparent": f"00-{TRACE}-{CALLER}-00"})
    assert (trace, found) == (TRACE, [])


@pytest.mark.parametrize("sent", [{}, {"traceparent": "rubbish"}, {"traceparent": f"00-{TRACE}-{CALLER}"}])
def test_untraced_requests_have_no_trace(sent: dict[str, str]) -> None:
    assert PassedOn().record(Traced("read", 0.1, "ok"), sent) == ""
    assert PassedOn().record(Traced("read", 0.1, "ok"), SENT) == TRACE
