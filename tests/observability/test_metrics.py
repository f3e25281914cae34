"""What Prometheus reads after each event."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.observability.metrics import REFUSALS, REPLACEMENTS, STAGES, STATES, Metrics
from service.observability.scraped import AdapterReading, DeviceReading, Scraped

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
    metrics.stages_took("mix-448", {"queue": 1.0, "preprocess": 2.0, "vision": 3.0, "prefill": 4.0, "decode": 5000.0})
    metrics.tokens_used("mix-448", 1024, 5, 7)
    metrics.tokens_used("mix-448", 1024, 5, 7)
    metrics.tokens_took("mix-448", 0.02, 0.6, 7)
    metrics.tokens_took("mix-448", 0.02, 0.0, 1)
    metrics.instance_holds("mix-448", 8, 256)
    metrics.queue_changed("mix-448", 9, 4, 9000)
    metrics.queue_changed("mix-448", 3, 2, 3000)
    metrics.batch_ran("mix-448", "decode", 4)
    metrics.request_refused("queue_full")
    metrics.event_loop_lagged(0.004)
    metrics.worker_restarted("cpu")
    metrics.instance_entered("mix-448", "loading")
    metrics.instance_entered("mix-448", "warm")
    metrics.vision_cache_asked("mix-448", hit=True)
    metrics.vision_cache_changed("mix-448", 500)
    found = samples(metrics)
    assert value(found, "build_info", version="1.2.3") == 1
    assert value(found, "requests_total", task="detect", model="mix-448", code="ok", transport="rest") == 2
    assert value(found, "requests_total", task="detect", model="_other", code="overloaded", transport="rest") == 1
    assert value(found, "request_duration_seconds_sum", task="detect", code="ok", transport="rest") == 0.8
    assert value(found, "request_duration_seconds_bucket", task="detect", code="ok", transport="rest", le="0.25") == 0
    assert value(found, "request_duration_seconds_bucket", task="detect", code="ok", transport="rest", le="0.5") == 2
    assert value(found, "stage_duration_seconds_sum", model="mix-448", stage="decode") == 5
    assert value(found, "stage_duration_seconds_sum", model="mix-448", stage="queue") == 0.001
    assert {value(found, "stage_duration_seconds_count", model="mix-448", stage=stage) for stage in STAGES} == {1}
    assert value(found, "time_to_first_token_seconds_sum", model="mix-448") == 0.04
    # Of the second answer's only token there is no time between two.
    assert value(found, "time_per_output_token_seconds_sum", model="mix-448") == pytest.approx(0.1)
    assert value(found, "time_per_output_token_seconds_count", model="mix-448") == 1
    assert value(found, "image_tokens_total", model="mix-448") == 2048
    assert value(found, "prompt_tokens_total", model="mix-448") == 10
    assert value(found, "completion_tokens_total", model="mix-448") == 14
    assert value(found, "requests_waiting", model="mix-448") == 3
    assert value(found, "waiting_tokens", model="mix-448") == 3000
    assert value(found, "requests_running", model="mix-448") == 2
    assert (value(found, "slots", model="mix-448"), value(found, "queue_limit", model="mix-448")) == (8, 256)
    assert value(found, "batch_size_bucket", model="mix-448", phase="decode", le="2.0") == 0
    assert value(found, "batch_size_bucket", model="mix-448", phase="decode", le="4.0") == 1
    assert {reason: value(found, "requests_refused_total", reason=reason) for reason in REFUSALS} == dict.fromkeys(REFUSALS, 0) | {
        "queue_full": 1
    }
    assert value(found, "event_loop_lag_seconds_sum") == 0.004
    assert value(found, "worker_restarts_total", device="cpu") == 1
    assert [value(found, "instance_state", model="mix-448", state=state) for state in STATES] == [0, 0, 1, 0]
    assert value(found, "vision_cache_requests_total", model="mix-448", outcome="hit") == 1
    assert value(found, "vision_cache_bytes", model="mix-448") == 500
    assert found["process_resident_memory_bytes", ()] > 1_000_000


def test_image_workers_are_counted_from_the_start() -> None:
    metrics = Metrics("1")
    metrics.image_worker_restarted("crashed")
    found = samples(metrics)
    assert [value(found, "image_worker_restarts_total", reason=reason) for reason in REPLACEMENTS] == [1, 0, 0]


def test_two_of_them_share_nothing() -> None:
    one, two = Metrics("1"), Metrics("2")
    one.batch_ran("a", "prefill", 1)
    assert value(samples(one), "batch_size_count", model="a", phase="prefill") == 1
    assert not any(name == "paliserve_batch_size_count" for name, _ in samples(two))


def test_one_number_for_routers_and_autoscalers() -> None:
    metrics = Metrics("1")
    assert value(samples(metrics), "pool_slots_used_ratio") == 0
    metrics.instance_holds("one", 6, 256)
    metrics.instance_holds("two", 4, 256)
    metrics.queue_changed("one", 5, 6, 0)
    metrics.queue_changed("two", 2, 1, 0)
    found = samples(metrics)
    assert [value(found, f"pool_{name}") for name in ("requests_waiting", "requests_running", "slots_used_ratio")] == [7, 7, 0.7]
    metrics.queue_changed("one", 0, 0, 0)
    metrics.instance_holds("one", 0, 256)
    found = samples(metrics)
    assert [value(found, f"pool_{name}") for name in ("requests_waiting", "requests_running", "slots_used_ratio")] == [2, 1, 0.25]


def test_a_duration_leads_to_its_trace_where_openmetrics_is_accepted() -> None:
    metrics = Metrics("1")
    metrics.request_ended("detect", "ok", "rest", 0.3, "mix-448", trace="0af7651916cd43dd8448eb211c80319c")
    body, kind = metrics.exposition("application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    (bucket,) = [line for line in body.decode().splitlines() if "duration_seconds_bucket" in line and " # " in line]
    assert 'le="0.5"' in bucket
    assert bucket.partition(" # ")[2].startswith('{trace_id="0af7651916cd43dd8448eb211c80319c"} 0.3')
    assert b"trace_id" not in metrics.exposition()[0]


def test_what_is_read_when_it_is_asked_for() -> None:
    metrics = Metrics("1")
    reading = [DeviceReading("cpu", 1.5, 100, 1000, (30, 40))]
    metrics.watch(Scraped(lambda: reading, lambda: AdapterReading(8, ("one", "two"), 1234.5)))
    found = samples(metrics)
    assert value(found, "step_age_seconds", device="cpu") == 1.5
    assert [value(found, "device_memory_bytes", device="cpu", kind=kind) for kind in ("used", "total")] == [100, 1000]
    assert [value(found, "worker_resident_memory_bytes", device="cpu", worker=worker) for worker in ("0", "1")] == [30, 40]
    assert value(found, "lora_requests_info", max_lora="8", running_lora_adapters="one,two", waiting_lora_adapters="") == 1234.5
    reading[0] = DeviceReading("cpu", 0.0, 100, 1000, ())
    assert value(samples(metrics), "step_age_seconds", device="cpu") == 0
