"""One visit of a client, by whichever transport: its id, its one log line, its metrics."""

import logging
import re
import uuid
from dataclasses import dataclass, field

from service.observability.metrics import Metrics
from service.tasks.results import Answer

logger = logging.getLogger(__name__)

SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
TRACE_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(slots=True)
class Visit:
    """What a transport tells about a request. ``task`` is empty where none was asked.

    ``parts`` are the requests that were made in one: where there are some they are counted, each by its own ``seconds``, and not the whole.
    """

    task: str = ""
    code: str = "ok"
    answer: Answer | None = None
    seconds: float = 0.0
    parts: list["Visit"] = field(default_factory=list)


def identity(asked: str) -> str:
    """The id of a request: the caller's where it is sane, else one made here."""
    return asked if SANE_ID.fullmatch(asked) else uuid.uuid4().hex


class VisitBook:
    """Closes the visits of one transport."""

    def __init__(self, transport: str, metrics: Metrics) -> None:
        self._transport = transport
        self._metrics = metrics

    def close(self, visit: Visit, what: str, trace_parent: str, level: int = logging.INFO) -> None:
        """Write the line and count. ``what`` was asked and what came of it, in words of this program: a path as sent is a stranger's."""
        trace = TRACE_PARENT.fullmatch(trace_parent)
        logger.log(level, "%s %s %.1f ms%s", what, visit.code, 1000 * visit.seconds, f" trace {trace[1]}" if trace else "")
        for each in visit.parts or [visit]:
            self.count(each)

    def count(self, visit: Visit) -> None:
        """Count without a line of its own: a part of something that goes on."""
        if not visit.task:
            return
        answer = visit.answer
        self._metrics.request_ended(visit.task, visit.code, self._transport, visit.seconds, answer.model if answer else "_other")
        if answer:
            timings, usage = answer.timings, answer.usage
            self._metrics.stages_took({name: getattr(timings, name) for name in ("queue", "preprocess", "vision", "prefill", "decode")})
            self._metrics.tokens_used(answer.model, usage.image_tokens, usage.prompt_tokens, usage.completion_tokens)
