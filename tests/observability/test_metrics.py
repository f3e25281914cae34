"""What Prometheus reads after each event."""

from prometheus_client.parser import text_string_to_metric_families

from service.observability.metrics import STAGES, Metrics

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(metrics: Metrics) -> Samples:
    body, kind = metrics.exposition()
    assert kind.startswith("text/plain")
    families = text_string_to_metric_families(body.decode())
    return {(each.name, tuple(sorted(each.labels.items()))): each.value for family in families for each in family.samples}


def value(found: Samples, name: str, **labels: str) -> float:
    return found[f"paliserve_{name}", tuple(sorted(labels.items()))]


def test_each_event() -> None:
    metrics = Metrics("1.2.3")
    metrics.request_ended("detect", "ok", "rest", 0.3, "mix-448")
    metrics.request_ended("detect", "ok", "rest", 0.5, "mix-448")
    metrics.request_ended("detect", "overloaded", "rest", 0.001)
    metrics.stages_took({"queue": 1.0, "preprocess": 2.0, "vision": 3.0, "prefill": 4.0, "decode": 5000.0})
    metrics.tokens_used("mix-448", 1024, 5, 7)
    metrics.tokens_used("mix-448", 1024, 5, 7)
    metrics.queue_changed("mix-448", 9, 4)
    metrics.queue_changed("mix-448", 3, 2)
    metrics.batch_ran("decode", 4)
    found = samples(metrics)
    assert value(found, "build_info", version="1.2.3") == 1
    assert value(found, "requests_total", task="detect", model="mix-448", code="ok", transport="rest") == 2
    assert value(found, "requests_total", task="detect", model="_other", code="overloaded", transport="rest") == 1
    assert value(found, "request_duration_seconds_sum", task="detect", code="ok", transport="rest") == 0.8
    assert value(found, "request_duration_seconds_bucket", task="detect", code="ok", transport="rest", le="0.25") == 0
    assert value(found, "request_duration_seconds_bucket", task="detect", code="ok", transport="rest", le="0.5") == 2
    assert value(found, "stage_duration_seconds_sum", stage="decode") == 5
    assert value(found, "stage_duration_seconds_sum", stage="queue") == 0.001
    assert {value(found, "stage_duration_seconds_count", stage=stage) for stage in STAGES} == {1}
    assert value(found, "image_tokens_total", model="mix-448") == 2048
    assert value(found, "prompt_tokens_total", model="mix-448") == 10
    assert value(found, "completion_tokens_total", model="mix-448") == 14
    assert value(found, "requests_waiting", instance="mix-448") == 3
    assert value(found, "requests_running", instance="mix-448") == 2
    assert value(found, "batch_size_bucket", phase="decode", le="2.0") == 0
    assert value(found, "batch_size_bucket", phase="decode", le="4.0") == 1


def test_two_of_them_share_nothing() -> None:
    one, two = Metrics("1"), Metrics("2")
    one.batch_ran("prefill", 1)
    assert value(samples(one), "batch_size_count", phase="prefill") == 1
    assert not any(name == "paliserve_batch_size_count" for name, _ in samples(two))
