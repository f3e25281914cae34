"""Prometheus metrics: one method for each event, and the exposition."""

from collections.abc import Callable, Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
TOKEN_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
STATES = ("cold", "loading", "warm", "failed")
STAGES = ("queue", "preprocess", "vision", "prefill", "decode")
OUTCOMES = ("hit", "miss")
ENDS = ("answered", "failed", "cancelled")
REFUSALS = (
    *("queue_full", "too_late", "draining", "model_not_ready", "memory_full"),
    *("unauthenticated", "permission_denied", "rate_limited"),
)
"""Why a request is refused at the door: no place in the queue, no hope to be done in time, the process stops, the model is not loaded, the
requests that are there hold all the memory that they may; the caller has no key, may not do this, or asked for too much."""
REPLACEMENTS = ("crashed", "too_slow", "idle")
"""When an image worker ended: over a picture, by us because a picture took too long, or between two pictures."""
CUTS = ("too_many", "too_many_of_one", "malformed", "late", "unread")
"""Why a connection is closed early: there are too many, of all or of one peer; what it sent is not HTTP, or came too slowly; its client
does not read."""


class Metrics:
    """All metrics of a process, in a registry of their own.

    Labels are bounded: tasks, codes, stages, phases, names of served instances. The latter are called ``model``, because Prometheus itself
    puts a label ``instance`` on whatever it scrapes.
    """

    def __init__(self, version: str, **build: str) -> None:
        """``build``: what else ``paliserve_build_info`` tells, such as the versions of libraries."""
        self._registry = CollectorRegistry()
        registry = self._registry
        ProcessCollector(registry=registry)
        Info("paliserve_build", "Which program this is", registry=registry).info({"version": version, **build})
        self._of_requests(registry)
        self._of_connections(registry)
        self._of_answers(registry)
        self._of_instances(registry)
        self._lag = Histogram(
            "paliserve_event_loop_lag_seconds",
            "How much later than asked for the event loop woke up",
            buckets=LAG_SECONDS,
            registry=registry,
        )
        self._tasks = Gauge("paliserve_event_loop_tasks", "Tasks of the event loop that have not ended", registry=registry)
        self._restarts = Counter(
            "paliserve_worker_restarts", "Worker processes that ended and were replaced", ["device"], registry=registry
        )

        self._image_restarts = Counter(
            "paliserve_image_worker_restarts", "Image workers that ended and were replaced", ["reason"], registry=registry
        )
        for reason in REPLACEMENTS:
            self._image_restarts.labels(reason)

    def _of_requests(self, registry: CollectorRegistry) -> None:
        self._requests = Counter("paliserve_requests", "Requests answered", ["task", "model", "code", "transport"], registry=registry)
        self._refused = Counter("paliserve_requests_refused", "Requests refused at the door", ["reason"], registry=registry)
        for reason in REFUSALS:
            self._refused.labels(reason)
        self._duration = Histogram(
            "paliserve_request_duration_seconds", "Time from the request's head to its answer", ["task", "code", "transport"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip

    def _of_connections(self, registry: CollectorRegistry) -> None:
        self._connections = Gauge("paliserve_connections", "Connections of the HTTP port", registry=registry)
        self._cut = Counter("paliserve_connections_cut", "Connections of the HTTP port closed early", ["reason"], registry=registry)
        for reason in CUTS:
            self._cut.labels(reason)
        self._held = Gauge("paliserve_held_bytes", "Bytes of requests that are being received or worked on", registry=registry)
        self._most_held = Gauge("paliserve_held_bytes_limit", "Bytes that all requests together may hold", registry=registry)

    def _of_answers(self, registry: CollectorRegistry) -> None:
        self._stage = Histogram(
            "paliserve_stage_duration_seconds", "Time of an answered request in each stage", ["model", "stage"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._first_token = Histogram(
            "paliserve_time_to_first_token_seconds", "Time from a request's beginning to its first token", ["model"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._each_token = Histogram(
            "paliserve_time_per_output_token_seconds", "Mean time between the tokens of an answer", ["model"],
            buckets=TOKEN_SECONDS, registry=registry,
        )  # fmt: skip
        self._image_tokens = Counter("paliserve_image_tokens", "Image tokens read", ["model"], registry=registry)
        self._prompt_tokens = Counter("paliserve_prompt_tokens", "Text tokens read", ["model"], registry=registry)
        self._completion_tokens = Counter("paliserve_completion_tokens", "Tokens written", ["model"], registry=registry)

    def _of_instances(self, registry: CollectorRegistry) -> None:
        self._state = Gauge("paliserve_instance_state", "1 for the state that the instance is in", ["model", "state"], registry=registry)
        self._waiting = Gauge("paliserve_requests_waiting", "Requests that hold a place in the queue", ["model"], registry=registry)
        self._waiting_tokens = Gauge("paliserve_waiting_tokens", "Prompt and image tokens in the queue", ["model"], registry=registry)
        self._running = Gauge("paliserve_requests_running", "Requests that hold a slot", ["model"], registry=registry)
        self._slots = Gauge("paliserve_slots", "Requests that can run at once", ["model"], registry=registry)
        self._queue_limit = Gauge("paliserve_queue_limit", "Requests that may wait", ["model"], registry=registry)
        self._batch = Histogram("paliserve_batch_size", "Rows of a step", ["model", "phase"], buckets=ROWS, registry=registry)
        self._accepted = Counter(
            "paliserve_generations_accepted", "Requests that got a place in the queue: they have ended, wait or run", ["model"],
            registry=registry,
        )  # fmt: skip
        self._ended = Counter(
            "paliserve_generations_ended", "Accepted requests that ended, by how they did", ["model", "outcome"], registry=registry
        )
        self._cache_asked = Counter(
            "paliserve_vision_cache_requests", "Pictures looked up in the vision cache", ["model", "outcome"], registry=registry
        )
        self._cache_bytes = Gauge("paliserve_vision_cache_bytes", "Image features held by the vision cache", ["model"], registry=registry)
        # For routers and autoscalers, which read one number for each process.
        self._pool_waiting = Gauge("paliserve_pool_requests_waiting", "Requests that wait, of all instances", registry=registry)
        self._pool_running = Gauge("paliserve_pool_requests_running", "Requests that hold a slot, of all instances", registry=registry)
        self._pool_used = Gauge("paliserve_pool_slots_used_ratio", "Part of all slots that are held, 0 to 1", registry=registry)
        self._load: dict[str, tuple[int, int]] = {}
        self._holds: dict[str, int] = {}

    @cache  # noqa: B019 (as long as the process; finding a label's metric takes longer than setting it)
    def _queue(self, instance: str) -> tuple[Gauge, Gauge, Gauge]:
        return self._waiting.labels(instance), self._running.labels(instance), self._waiting_tokens.labels(instance)

    @cache  # noqa: B019
    def _stages(self, model: str) -> list[tuple[str, Histogram]]:
        return [(stage, self._stage.labels(model, stage)) for stage in STAGES]

    def watch(self, collector: Collector) -> None:
        """Ask ``collector`` too, whenever Prometheus reads."""
        self._registry.register(collector)

    def request_ended(self, task: str, code: str, transport: str, seconds: float, model: str = "_other", trace: str = "") -> None:
        """A request was answered, well or with an error code. ``model`` is a served instance, or is left out where none was reached.

        ``trace``: the id of its trace, which becomes the exemplar of its duration.
        """
        exemplar = {"trace_id": trace} if trace else None
        self._requests.labels(task, model, code, transport).inc(exemplar=exemplar)
        self._duration.labels(task, code, transport).observe(seconds, exemplar=exemplar)

    def request_refused(self, reason: str) -> None:
        """A request was refused for one of ``REFUSALS``."""
        self._refused.labels(reason).inc()

    def connections_changed(self, count: int) -> None:
        """So many connections of the HTTP port are served."""
        self._connections.set(count)

    def connection_cut(self, reason: str) -> None:
        """A connection was closed early for one of ``CUTS``."""
        self._cut.labels(reason).inc()

    def holding(self, held: Callable[[], int], most: int) -> None:
        """Ask ``held``, whenever Prometheus reads, how many bytes requests hold; ``most`` is what they may."""
        self._held.set_function(held)
        self._most_held.set(most)

    def stages_took(self, model: str, milliseconds: Mapping[str, float]) -> None:
        """How long each of ``STAGES`` took."""
        for stage, histogram in self._stages(model):
            histogram.observe(milliseconds[stage] / 1000)

    def tokens_took(self, model: str, first: float, decode: float, count: int) -> None:
        """Seconds until the first token of an answer, then for the others; ``count`` is that of all."""
        self._first_token.labels(model).observe(first)
        if count > 1:
            self._each_token.labels(model).observe(decode / (count - 1))

    def tokens_used(self, model: str, image: int, prompt: int, completion: int) -> None:
        """Tokens of one answered request."""
        self._image_tokens.labels(model).inc(image)
        self._prompt_tokens.labels(model).inc(prompt)
        self._completion_tokens.labels(model).inc(completion)

    def device_added(self, device: str) -> None:
        """A device is there. Its counters begin now: what only appears with its first event is no increase to Prometheus."""
        self._restarts.labels(device)

    def instance_holds(self, instance: str, slots: int, queue: int) -> None:
        """An instance was loaded with so many slots, or given back: 0 then; ``queue`` requests may wait."""
        for outcome in OUTCOMES:
            self._cache_asked.labels(instance, outcome)
        self._accepted.labels(instance)
        for end in ENDS:
            self._ended.labels(instance, end)
        self._slots.labels(instance).set(slots)
        self._queue_limit.labels(instance).set(queue)
        self._holds[instance] = slots
        if not slots:
            self._load.pop(instance, None)
        self._pool()

    def queue_changed(self, instance: str, waiting: int, running: int, tokens: int) -> None:
        """See ``EngineObserver``."""
        for gauge, value in zip(self._queue(instance), (waiting, running, tokens), strict=True):
            gauge.set(value)
        self._load[instance] = waiting, running
        self._pool()

    def _pool(self) -> None:
        waiting, running = (sum(column) for column in zip(*self._load.values(), strict=True)) if self._load else (0, 0)
        slots = sum(self._holds.values())
        self._pool_waiting.set(waiting)
        self._pool_running.set(running)
        self._pool_used.set(min(1.0, running / slots) if slots else 0.0)

    def instance_entered(self, instance: str, state: str) -> None:
        """An instance changed its state."""
        for each in STATES:
            self._state.labels(instance, each).set(each == state)

    def generation_accepted(self, instance: str) -> None:
        """See ``EngineObserver``."""
        self._accepted.labels(instance).inc()

    def generation_ended(self, instance: str, end: str) -> None:
        """See ``EngineObserver``."""
        self._ended.labels(instance, end).inc()

    def batch_ran(self, instance: str, phase: str, size: int) -> None:
        """See ``EngineObserver``."""
        self._batch.labels(instance, phase).observe(size)

    def vision_cache_asked(self, instance: str, hit: bool) -> None:
        """See ``CacheObserver``."""
        self._cache_asked.labels(instance, OUTCOMES[not hit]).inc()

    def vision_cache_changed(self, instance: str, held_bytes: int) -> None:
        """See ``CacheObserver``."""
        self._cache_bytes.labels(instance).set(held_bytes)

    def event_loop_lagged(self, seconds: float) -> None:
        """The event loop woke up so much later than it was asked to."""
        self._lag.observe(seconds)

    def event_loop_has(self, tasks: int) -> None:
        """So many tasks of the event loop have not ended."""
        self._tasks.set(tasks)

    def worker_restarted(self, device: str) -> None:
        """A worker process ended and was replaced. On any thread."""
        self._restarts.labels(device).inc()

    def image_worker_restarted(self, reason: str) -> None:
        """An image worker ended and was replaced, for one of ``REPLACEMENTS``. On any thread."""
        self._image_restarts.labels(reason).inc()

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """What ``/metrics`` answers to the header ``accept``: body and content type. Only OpenMetrics has exemplars."""
        encode, kind = choose_encoder(accept)
        return encode(self._registry), kind
