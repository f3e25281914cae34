"""What the tasks need from the layers that ``main`` plugs in."""

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol

from service.engine.engine import Engine
from service.engine.lexicon import Lexicon
from service.engine.runner import LoadedModel, Vocabulary
from service.engine.vision_cache import VisionCache

__all__ = ["Held", "Instance", "LoadedModel", "Router", "Vocabulary"]


class Held(Protocol):
    """An adapter in use: its place in the runner's table, and what tells apart pictures that it changes the sight of."""

    @property
    def place(self) -> int: ...

    @property
    def view(self) -> int: ...


class Adapters(Protocol):
    """The adapters of an instance."""

    def hold(self, name: str | None) -> AbstractContextManager[Held]:
        """One of them, or none. Errors: AdapterNotFound."""
        ...


class Instance(Protocol):
    """One warm model, as a task sees it."""

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> LoadedModel: ...

    @property
    def engine(self) -> Engine: ...

    @property
    def pictures(self) -> VisionCache: ...

    @property
    def lexicon(self) -> Lexicon: ...

    @property
    def adapters(self) -> Adapters: ...

    @property
    def prompt_style(self) -> str: ...

    @property
    def max_images(self) -> int: ...


class Router(Protocol):
    """Knows which instance answers a request."""

    def lease(self, model: str | None, resolution: int | str | None, shorter_side: int | None) -> AbstractAsyncContextManager[Instance]:
        """The instance named ``model``, else one of ``resolution`` (224, 448, 896 or "auto"), else the default. It stays warm meanwhile.

        ``shorter_side`` of the picture, in pixels, is known where ``resolution`` is "auto". Errors: ModelNotFound, ModelNotReady.
        """
        ...
