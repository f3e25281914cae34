"""Who asks: set by a transport once it knows, read where callers share something."""

from contextvars import ContextVar

ANYBODY = ""
"""All who need no key are one caller."""

caller: ContextVar[str] = ContextVar("caller", default=ANYBODY)
"""The name of the caller's key. What is asked on its behalf runs in tasks that were begun under it."""
