"""One visit of a client, by whichever transport: its id, its one log line, its metrics, its trace."""

import logging
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.observability.metrics import STAGES, Metrics
from service.observability.tracing import Traced, Tracing
from service.tasks.results import Answer

logger = logging.getLogger(__name__)

SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
REFUSED = frozenset({"draining", "model_not_ready"})
"""Codes of refusals that no engine has counted."""

AT_THE_GATE = frozenset({"unauthenticated", "permission_denied", "rate_limited"})
"""The same, of those that come before it is known what was asked."""

IN_ORDER = ("preprocess", "queue", "vision", "prefill", "decode")
"""The stages of an answer, as they follow one another."""


@dataclass(slots=True)
class Visit:
    """What a transport tells about a request. ``task`` is empty where none was asked.

    ``parts`` are the requests that were made in one: where there are some they are counted, each by its own ``seconds``, and not the whole.
    ``caller`` is the name of a key, empty where none was needed.
    """

    task: str = ""
    code: str = "ok"
    answer: Answer | None = None
    seconds: float = 0.0
    caller: str = ""
    parts: list["Visit"] = field(default_factory=list)


def identity(asked: str) -> str:
    """The id of a request: the caller's where it is sane, else one made here."""
    return asked if SANE_ID.fullmatch(asked) else uuid.uuid4().hex


class VisitBook:
    """Closes the visits of one transport."""

    def __init__(self, transport: str, metrics: Metrics, tracing: Tracing) -> None:
        self._transport = transport
        self._metrics = metrics
        self._tracing = tracing
        self._turned_away: dict[tuple[str, str], tuple[int, float]] = {}

    def close(self, visit: Visit, what: str, outcome: str, sent: Mapping[str, str], level: int = logging.INFO) -> None:
        """Write the line, count, and record the trace.

        ``what`` was asked, and its ``outcome``, in words of this program: a path as sent is a stranger's. ``sent``: headers or metadata.
        """
        trace = self._tracing.record(_traced(visit, what), sent) if visit.task else ""
        fields = self._told(visit) | ({"trace_id": trace} if trace else {})
        said = f" trace {trace}" if trace else ""
        logger.log(level, "%s %s %s %.1f ms%s", what, outcome, visit.code, 1000 * visit.seconds, said, extra={"fields": fields})
        for each in visit.parts or [visit]:
            self._count(each, trace)

    def turn_away(self, visit: Visit) -> None:
        """Count one that was refused before it was read. There are many of them, or none: one line a second tells of all of a kind."""
        self._count(visit, "")
        kind, now = (visit.code, visit.caller), time.monotonic()
        count, next_line = self._turned_away.get(kind, (0, 0.0))
        count += 1
        if now >= next_line:
            fields = {"transport": self._transport, "turned_away": count, "code": visit.code} | (
                {"caller": visit.caller} if visit.caller else {}
            )
            of = f" of {visit.caller}" if visit.caller else ""
            logger.info("turned away %d requests%s: %s", count, of, visit.code, extra={"fields": fields})
            count, next_line = 0, now + 1.0
        self._turned_away[kind] = count, next_line

    def close_part(self, visit: Visit, sent: Mapping[str, str]) -> None:
        """Count and trace without a line of its own: a part of something that goes on."""
        if visit.task:
            self._count(visit, self._tracing.record(_traced(visit, f"part {visit.task}"), sent))

    def _count(self, visit: Visit, trace: str) -> None:
        if visit.code in AT_THE_GATE:
            self._metrics.request_refused(visit.code)
        if not visit.task:
            return
        answer = visit.answer
        model = answer.model if answer else "_other"
        self._metrics.request_ended(visit.task, visit.code, self._transport, visit.seconds, model, trace)
        if visit.code in REFUSED:
            self._metrics.request_refused(visit.code)
        if answer:
            timings, usage = answer.timings, answer.usage
            self._metrics.stages_took(answer.model, {name: getattr(timings, name) for name in STAGES})
            # Not all but decode: the masks of an answer are painted behind its last token.
            first = (timings.preprocess + timings.queue + timings.vision + timings.prefill) / 1000
            self._metrics.tokens_took(answer.model, first, timings.decode / 1000, usage.completion_tokens)
            self._metrics.tokens_used(answer.model, usage.image_tokens, usage.prompt_tokens, usage.completion_tokens)

    def _told(self, visit: Visit) -> dict[str, Any]:
        """What logs as JSON hold of it, besides the line: nothing that a caller wrote."""
        told: dict[str, Any] = {"transport": self._transport, "code": visit.code, "seconds": round(visit.seconds, 6)}
        if visit.caller:
            told["caller"] = visit.caller
        if visit.task:
            told["task"] = visit.task
        if visit.parts:
            told["parts"] = len(visit.parts)
        if (answer := visit.answer) is not None:
            told |= {"model": answer.model, "finish_reason": answer.finish_reason, "completion_tokens": answer.usage.completion_tokens}
            told |= {"image": f"{answer.image.width}x{answer.image.height}"}
            told["timings_ms"] = {name: round(getattr(answer.timings, name), 3) for name in STAGES}
        return told


def _traced(visit: Visit, name: str) -> Traced:
    """Named as OpenTelemetry's conventions for generative models have it."""
    attributes: dict[str, str | int | list[str]] = {"gen_ai.operation.name": visit.task}
    stages: dict[str, float] = {}
    if (answer := visit.answer) is not None:
        attributes |= {
            "gen_ai.response.model": answer.model,
            "gen_ai.usage.input_tokens": answer.usage.image_tokens + answer.usage.prompt_tokens,
            "gen_ai.usage.output_tokens": answer.usage.completion_tokens,
            "gen_ai.response.finish_reasons": [answer.finish_reason],
        }
        stages = {stage: getattr(answer.timings, stage) / 1000 for stage in IN_ORDER}
    return Traced(name, visit.seconds, visit.code, attributes, stages, [_traced(part, f"part {part.task}") for part in visit.parts])
