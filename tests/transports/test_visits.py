"""What a visit leaves behind: counts, a trace, and fields of its log line."""

import logging

import pytest

from service.observability.metrics import Metrics
from service.observability.tracing import PassedOn
from service.tasks.results import Answer, ImageSize, Timings, Usage
from service.transports.visits import Visit, VisitBook

ANSWER = Answer(
    "mix-448", "segment", "segment cat", "…", "stop", 0.9, ImageSize(640, 480), Usage(1024, 5, 21),
    Timings(queue=10, preprocess=20, vision=30, prefill=40, decode=200, total=900),
)  # fmt: skip


def value(metrics: Metrics, name: str) -> float:
    (line,) = [line for line in metrics.exposition()[0].decode().splitlines() if line.startswith(name)]
    return float(line.split()[-1])


def test_the_first_token_comes_before_the_masks_are_painted(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics("1")
    book = VisitBook("grpc", metrics, PassedOn())
    with caplog.at_level(logging.INFO):
        book.close(Visit("segment", "ok", ANSWER, 0.95), "PaliGemmaService/Segment", "OK", {})
    assert value(metrics, "paliserve_time_to_first_token_seconds_sum") == pytest.approx(0.1)
    assert value(metrics, "paliserve_time_per_output_token_seconds_sum") == pytest.approx(0.01)
    (record,) = caplog.records
    assert record.getMessage() == "PaliGemmaService/Segment OK ok 950.0 ms"
    fields = record.__dict__["fields"]
    assert (fields["task"], fields["model"], fields["image"], fields["completion_tokens"]) == ("segment", "mix-448", "640x480", 21)
    assert "cat" not in str(fields)


@pytest.mark.parametrize(("code", "counted"), [("draining", 1), ("model_not_ready", 1), ("invalid_request", 0), ("overloaded", 0)])
def test_refusals_that_no_engine_knows_of_are_counted(code: str, counted: int) -> None:
    metrics = Metrics("1")
    VisitBook("rest", metrics, PassedOn()).close(Visit("read", code), "POST /v1/read", "503", {})
    refused = [line for line in metrics.exposition()[0].decode().splitlines() if line.startswith("paliserve_requests_refused_total")]
    assert sum(float(line.split()[-1]) for line in refused) == counted
