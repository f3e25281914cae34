"""What every transport needs from the service that ``main`` builds."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from service.instances.description import ModelDescription
from service.tasks.tasks import Tasks


class Service(Protocol):
    """The running service."""

    @property
    def tasks(self) -> Tasks: ...

    def models(self) -> Sequence[ModelDescription]:
        """What is served, the default first."""
        ...

    def model(self, name: str) -> ModelDescription:
        """Errors: ModelNotFound."""
        ...

    async def load(self, name: str) -> ModelDescription:
        """Load an instance that is not loaded, and wait for it. Errors: ModelNotFound, ModelNotReady."""
        ...

    async def unload(self, name: str) -> ModelDescription:
        """Give back what an instance takes, once its requests have ended. Errors: ModelNotFound."""
        ...

    async def load_adapter(self, name: str, adapter: str, source: str, revision: str | None) -> ModelDescription:
        """Let requests to an instance ask for an adapter. Errors: ModelNotFound, ModelNotReady, InvalidRequest."""
        ...

    async def unload_adapter(self, name: str, adapter: str) -> ModelDescription:
        """Give an adapter back, once its requests have ended. Errors: ModelNotFound, ModelNotReady, AdapterNotFound."""
        ...

    def alive(self) -> bool:
        """Whether the process can still make progress."""
        ...

    async def fetch_image(self, url: str) -> bytes:
        """What a URL gives, where URLs are allowed. Errors: ImageUrlForbidden, ImageUrlFailed, ImageTooLarge."""
        ...

    def ready(self) -> None:
        """Return where new requests are taken. Errors: Draining, ModelNotReady."""
        ...

    def crowded(self) -> bool:
        """Whether ``room`` may refuse somebody."""
        ...

    def has_room(self) -> bool:
        """Whether ``room`` lets ``callers.caller`` in now."""
        ...

    def room(self) -> AbstractContextManager[None]:
        """Room for one request of ``callers.caller``'s, from before it is read until it is answered. Errors: Overloaded, when entered."""
        ...
