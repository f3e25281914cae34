"""Who asks: set by a transport once it knows, read where callers share something."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol

ANYBODY = ""
"""All who need no key are one caller."""

caller: ContextVar[str] = ContextVar("caller", default=ANYBODY)
"""The name of the caller's key. What is asked on its behalf runs in tasks that were begun under it."""


class Admission(Protocol):
    """Counts the requests of one visit."""

    def request(self, images: int) -> AbstractContextManager[None]:
        """Around one request with so many pictures. Errors: RateLimited, PermissionDenied."""
        ...


class Unlimited:
    """The admission of work that nobody limits, such as this process's own."""

    def request(self, images: int) -> AbstractContextManager[None]:
        """See ``Admission``."""
        return nullcontext()


admission: ContextVar[Admission] = ContextVar("admission", default=Unlimited())  # noqa: B039 (it holds nothing)
"""That of the visit in which the running task works."""


@contextmanager
def working_for(name: str, admitted: Admission) -> Iterator[None]:
    """What is begun within is done for the key ``name``."""
    tokens = caller.set(name), admission.set(admitted)
    try:
        yield
    finally:
        caller.reset(tokens[0])
        admission.reset(tokens[1])
