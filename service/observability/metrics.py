"""Prometheus metrics: one method for each event, and the exposition."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
STATES = ("cold", "loading", "warm", "failed")
STAGES = ("queue", "preprocess", "vision", "prefill", "decode")


class Metrics:
    """All metrics of a process, in a registry of their own. Labels are bounded: tasks, codes, stages, phases, names of served instances."""

    def __init__(self, version: str) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self._requests = Counter("paliserve_requests", "Requests answered", ["task", "model", "code", "transport"], registry=registry)
        self._duration = Histogram(
            "paliserve_request_duration_seconds", "Time from the request's head to its answer", ["task", "code", "transport"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._stage = Histogram(
            "paliserve_stage_duration_seconds", "Time of an answered request in each stage", ["stage"], buckets=SECONDS, registry=registry
        )
        self._waiting = Gauge("paliserve_requests_waiting", "Requests that hold a place in the queue", ["instance"], registry=registry)
        self._running = Gauge("paliserve_requests_running", "Requests that hold a slot", ["instance"], registry=registry)
        self._state = Gauge("paliserve_instance_state", "1 for the state that the instance is in", ["instance", "state"], registry=registry)
        self._batch = Histogram("paliserve_batch_size", "Rows of a step", ["phase"], buckets=ROWS, registry=registry)
        self._cache_asked = Counter(
            "paliserve_vision_cache_requests", "Pictures looked up in the vision cache", ["instance", "outcome"], registry=registry
        )
        self._cache_bytes = Gauge(
            "paliserve_vision_cache_bytes", "Image features held by the vision cache", ["instance"], registry=registry
        )
        self._image_tokens = Counter("paliserve_image_tokens", "Image tokens read", ["model"], registry=registry)
        self._prompt_tokens = Counter("paliserve_prompt_tokens", "Text tokens read", ["model"], registry=registry)
        self._completion_tokens = Counter("paliserve_completion_tokens", "Tokens written", ["model"], registry=registry)
        Gauge("paliserve_build_info", "Always 1", ["version"], registry=registry).labels(version).set(1)

    def request_ended(self, task: str, code: str, transport: str, seconds: float, model: str = "_other") -> None:
        """A request was answered, well or with an error code. ``model`` is a served instance, or is left out where none was reached."""
        self._requests.labels(task, model, code, transport).inc()
        self._duration.labels(task, code, transport).observe(seconds)

    def stages_took(self, milliseconds: dict[str, float]) -> None:
        """How long each of ``STAGES`` took."""
        for stage in STAGES:
            self._stage.labels(stage).observe(milliseconds[stage] / 1000)

    def tokens_used(self, model: str, image: int, prompt: int, completion: int) -> None:
        """Tokens of one answered request."""
        self._image_tokens.labels(model).inc(image)
        self._prompt_tokens.labels(model).inc(prompt)
        self._completion_tokens.labels(model).inc(completion)

    def queue_changed(self, instance: str, waiting: int, running: int) -> None:
        """See ``QueueObserver``."""
        self._waiting.labels(instance).set(waiting)
        self._running.labels(instance).set(running)

    def instance_entered(self, instance: str, state: str) -> None:
        """An instance changed its state."""
        for each in STATES:
            self._state.labels(instance, each).set(each == state)

    def batch_ran(self, phase: str, size: int) -> None:
        """See ``StepObserver``."""
        self._batch.labels(phase).observe(size)

    def vision_cache_asked(self, instance: str, hit: bool) -> None:
        """See ``CacheObserver``."""
        self._cache_asked.labels(instance, "hit" if hit else "miss").inc()

    def vision_cache_changed(self, instance: str, held_bytes: int) -> None:
        """See ``CacheObserver``."""
        self._cache_bytes.labels(instance).set(held_bytes)

    def exposition(self) -> tuple[bytes, str]:
        """What ``/metrics`` answers: body and content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
