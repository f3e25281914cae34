"""Log lines: one per record whatever it says, with the id of the request it belongs to."""

import json
import logging
import os
import sys
import warnings
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The request that the running task answers; empty outside of one."""

LONGEST = 4000
FORMATS = ("console", "json")
CLEARED = "\r\033[K"
"""To the beginning of a terminal's line, of which nothing stays."""


class OneLine(logging.Formatter):
    """``time level message [request id]``. Control characters are escaped, so that no text can begin a line of its own.

    ``over_bars``: for a terminal, where a bar may be drawn on the line, by this process or another one: it makes room.
    """

    def __init__(self, over_bars: bool = False) -> None:
        super().__init__()
        self._before = CLEARED if over_bars else ""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback follows its record, folded into it."""
        text = escape(record.getMessage())
        if record.exc_info:
            text += " | " + escape(self.formatException(record.exc_info)[-LONGEST:])
        identity = request_id.get()
        return f"{self._before}{_time(record)} {record.levelname.lower()} {text}" + (f" [{identity}]" if identity else "")


class JsonLine(logging.Formatter):
    """One JSON object a line. What a record holds as ``fields`` stands in it beside the rest."""

    def format(self, record: logging.LogRecord) -> str:
        """``time``, ``level``, ``logger``, ``message``; ``request_id`` and ``exception`` where there are any."""
        entry = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()[:LONGEST]}
        entry |= getattr(record, "fields", {})
        identity = request_id.get()
        if identity:
            entry["request_id"] = identity
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)[-LONGEST:]
        return json.dumps(entry)


def configure(log_format: str, level: str) -> None:
    """Send all logs to standard error in one of ``FORMATS``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLine() if log_format == "json" else OneLine(is_terminal(sys.stderr)))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Pillow logs and warns of what it finds in hostile files; callers learn it from the error, and nobody else needs to.
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"PIL\.")
    for chatty in ("httpx", "urllib3", "filelock", "transformers", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # It tells of every client who left before its answer, with a traceback; what went wrong in here is caught before it.
    logging.getLogger("grpc").setLevel(logging.CRITICAL)
    quiet_imports()


def is_terminal(stream: TextIO) -> bool:
    """Whether a person looks at it, through something that can draw over a line."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def quiet_imports() -> None:
    """Before transformers is imported: it imports torchao where that is, which tells of every CUDA library that it does not find."""
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)


def escape(text: str) -> str:
    """``text`` without control characters, at most ``LONGEST`` long."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text[:LONGEST])


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
