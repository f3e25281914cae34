"""What the service exports, by name: kind and labels; and a stand-in that exports the same."""

from collections.abc import Iterator
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.parser import text_string_to_metric_families

DECLARED = {
    "paliserve_requests_total": ("counter", "task model code transport"),
    "paliserve_requests_refused_total": ("counter", "reason"),
    "paliserve_connections_cut_total": ("counter", "reason"),
    "paliserve_generations_accepted_total": ("counter", "model"),
    "paliserve_generations_ended_total": ("counter", "model outcome"),
    "paliserve_image_tokens_total": ("counter", "model"),
    "paliserve_prompt_tokens_total": ("counter", "model"),
    "paliserve_completion_tokens_total": ("counter", "model"),
    "paliserve_vision_cache_requests_total": ("counter", "model outcome"),
    "paliserve_worker_restarts_total": ("counter", "device"),
    "paliserve_image_worker_restarts_total": ("counter", "reason"),
    "paliserve_request_duration_seconds": ("histogram", "task code transport"),
    "paliserve_stage_duration_seconds": ("histogram", "model stage"),
    "paliserve_time_to_first_token_seconds": ("histogram", "model"),
    "paliserve_time_per_output_token_seconds": ("histogram", "model"),
    "paliserve_batch_size": ("histogram", "model phase"),
    "paliserve_event_loop_lag_seconds": ("histogram", ""),
    "paliserve_event_loop_tasks": ("gauge", ""),
    "paliserve_requests_waiting": ("gauge", "model"),
    "paliserve_requests_running": ("gauge", "model"),
    "paliserve_slots": ("gauge", "model"),
    "paliserve_queue_limit": ("gauge", "model"),
    "paliserve_waiting_tokens": ("gauge", "model"),
    "paliserve_connections": ("gauge", ""),
    "paliserve_held_bytes": ("gauge", ""),
    "paliserve_held_bytes_limit": ("gauge", ""),
    "paliserve_instance_state": ("gauge", "model state"),
    "paliserve_vision_cache_bytes": ("gauge", "model"),
    "paliserve_step_age_seconds": ("gauge", "device"),
    "paliserve_device_memory_bytes": ("gauge", "device kind"),
    "paliserve_worker_resident_memory_bytes": ("gauge", "device worker"),
    "paliserve_pool_requests_waiting": ("gauge", ""),
    "paliserve_pool_requests_running": ("gauge", ""),
    "paliserve_pool_slots_used_ratio": ("gauge", ""),
    "paliserve_lora_requests_info": ("gauge", "max_lora running_lora_adapters waiting_lora_adapters"),
    "paliserve_build_info": ("gauge", "version python torch transformers"),
}

VALUES = {
    "task": ["detect", "answer"],
    "model": ["shapes-224", "shapes-448"],
    "code": ["ok", "internal", "overloaded", "invalid_request"],
    "transport": ["rest", "grpc"],
    "reason": ["queue_full", "too_late", "model_not_ready", "unauthenticated", "rate_limited", "draining", "memory_full"],
    "outcome": ["hit", "miss"],
    "stage": ["queue", "preprocess", "vision", "prefill", "decode"],
    "phase": ["vision", "prefill", "decode"],
    "state": ["cold", "loading", "warm", "failed"],
    "kind": ["used", "total"],
}
"""Values of the stand-in's labels; those of the others are "1"."""


class StandIn:
    """Exports what is declared. Every series changes with each ``step``; in its gauges the last of a label's values weigh most."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._children = list(self._all())
        self.step()

    def step(self) -> None:
        """One request of each kind, so to speak."""
        for number, child in self._children:
            if isinstance(child, Counter):
                child.inc()
            elif isinstance(child, Histogram):
                child.observe(0.02)
            else:
                child.set(number)

    def exposition(self) -> str:
        """What would stand at ``/metrics``."""
        return generate_latest(self.registry).decode()

    def _all(self) -> Iterator[tuple[int, Counter | Gauge | Histogram]]:
        kinds = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
        for name, (kind, labels) in DECLARED.items():
            metric = kinds[kind](name, "A stand-in", labels.split(), registry=self.registry)
            for number, values in enumerate(product(*(VALUES.get(label, ["1"]) for label in labels.split())), start=1):
                yield number, metric.labels(*values) if values else metric


def names_in(exposition: str) -> set[str]:
    """The names of all series that the text announces, those without a sample included."""
    names = set()
    for family in text_string_to_metric_families(exposition):
        ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        names |= {family.name + end for end in ends}
    return names
