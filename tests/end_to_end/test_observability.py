"""What the running server tells of itself: metrics as Prometheus wants them, traces over OTLP, one log line for each request."""

import json
import queue
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from service.transports.grpc.generated import paligemma_pb2 as pb
from service.transports.grpc.generated.paligemma_pb2_grpc import PaliGemmaServiceStub
from tests.end_to_end.conftest import CHECKPOINT, Server, needed

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


class Collector:
    """Takes what is exported, as OpenTelemetry's collector does over HTTP."""

    def __init__(self) -> None:
        self.exported: queue.Queue[ExportTraceServiceRequest] = queue.Queue()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/v1/traces":
                    outer.exported.put(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def spans(self) -> list[Any]:
        """All that came until now; something must have."""
        found = [self.exported.get(timeout=30)]
        while not self.exported.empty():
            found.append(self.exported.get())
        return [span for each in found for resource in each.resource_spans for scope in resource.scope_spans for span in scope.spans]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Collector]]:
    """A server that sends traces and logs as JSON."""
    collector = Collector()
    config = tmp_path_factory.mktemp("traced") / "paliserve.toml"
    config.write_text(f'tracing = true\nlog_format = "json"\n[[instances]]\nname = "only"\nsource = "{CHECKPOINT}"\n')
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    running = Server("--config", str(config), environ=environ)
    yield running, collector
    running.close()
    collector.server.shutdown()
    collector.server.server_close()


def test_promtool_finds_nothing_wrong_with_the_metrics(server: Server, sample: bytes) -> None:
    server.client.post("/v1/caption", files={"image": sample})
    for accept in ("text/plain", "application/openmetrics-text"):
        told = server.client.get("/metrics", headers={"accept": accept})
        assert told.headers["content-type"].startswith(accept)
    text = server.client.get("/metrics").text
    checked = subprocess.run([needed("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_the_metrics_tell_of_the_machine(server: Server, sample: bytes) -> None:
    server.client.post("/v1/caption", files={"image": sample})
    families = text_string_to_metric_families(server.client.get("/metrics").text)
    found = {(each.name, *sorted(each.labels.values())): each.value for family in families for each in family.samples}
    used, total = (found["paliserve_device_memory_bytes", "cpu", kind] for kind in ("used", "total"))
    assert 0 < used < total
    assert found["paliserve_worker_resident_memory_bytes", "0", "cpu"] > 50_000_000
    assert found["process_resident_memory_bytes",] > 50_000_000
    assert found["paliserve_step_age_seconds", "cpu"] >= 0
    assert found["paliserve_slots", "shapes-224"] >= 10
    assert found["paliserve_time_to_first_token_seconds_count", "shapes-224"] >= 1
    assert found["paliserve_event_loop_lag_seconds_count",] >= 1


def test_each_request_is_traced_with_its_stages(traced: tuple[Server, Collector], sample: bytes) -> None:
    server, collector = traced
    answer = server.client.post("/v1/detect", files={"image": sample}, data={"objects": "sign"}, headers={"traceparent": PARENT})
    assert answer.status_code == 200
    spans = {span.name: span for span in collector.spans()}
    assert set(spans) == {"POST /v1/detect", "preprocess", "queue", "vision", "prefill", "decode"}
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    whole = spans["POST /v1/detect"]
    told = {each.key: each.value for each in whole.attributes}
    assert told["gen_ai.response.model"].string_value == "only"
    assert told["gen_ai.usage.output_tokens"].int_value == answer.json()["usage"]["completion_tokens"]
    decode = spans["decode"]
    timings = answer.json()["timings_ms"]
    assert (decode.end_time_unix_nano - decode.start_time_unix_nano) / 1e6 == pytest.approx(timings["decode"], abs=0.01)
    assert whole.start_time_unix_nano <= decode.start_time_unix_nano <= decode.end_time_unix_nano <= whole.end_time_unix_nano

    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        metadata = (("traceparent", PARENT.replace(TRACE, TRACE[::-1])),)
        PaliGemmaServiceStub(channel).Read(pb.ReadRequest(image=sample), metadata=metadata)  # type: ignore[no-untyped-call]
    spans = {span.name: span for span in collector.spans()}
    assert spans["paligemma.v1.PaliGemmaService/Read"].trace_id.hex() == TRACE[::-1]


def test_a_request_is_one_line_of_json(traced: tuple[Server, Collector], sample: bytes) -> None:
    server, _ = traced
    headers = {"x-request-id": "the-one", "traceparent": PARENT}
    server.client.post("/v1/caption", files={"image": sample}, headers=headers)
    server.wait_for('"request_id": "the-one"')
    (line,) = [each for each in server.log if "the-one" in each]
    told = json.loads(line)
    expected = {
        "level": "info",
        "code": "ok",
        "transport": "rest",
        "task": "caption",
        "model": "only",
        "image": "640x480",
        "trace_id": TRACE,
    }
    assert {name: told[name] for name in expected} == expected
    assert set(told["timings_ms"]) == {"queue", "preprocess", "vision", "prefill", "decode"}
    assert re.fullmatch(r"POST /v1/caption 200 ok \d+\.\d ms trace [0-9a-f]{32}", told["message"])


def test_spans_that_wait_are_sent_before_the_end(sample: bytes, tmp_path: Path) -> None:
    collector = Collector()
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "600000", "PALISERVE_TRACING": "true"}
    shutil.copytree(CHECKPOINT, tmp_path / "model")
    config = tmp_path / "paliserve.toml"
    config.write_text(f'[[instances]]\nname = "only"\nsource = "{tmp_path / "model"}"\n')
    running = Server("--config", str(config), environ=environ)
    try:
        running.client.post("/v1/caption", files={"image": sample})
        assert collector.exported.empty()
        assert running.stop() == 0
        assert "POST /v1/caption" in {span.name for span in collector.spans()}
    finally:
        running.close()
        collector.server.shutdown()
        collector.server.server_close()
