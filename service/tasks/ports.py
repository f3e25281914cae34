"""What the tasks need from the layers that ``main`` plugs in."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from service.engine.engine import Engine
from service.engine.lexicon import Lexicon
from service.engine.runner import LoadedModel, Vocabulary
from service.engine.vision_cache import VisionCache

__all__ = ["Instance", "Router", "Vocabulary"]


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


class Router(Protocol):
    """Knows which instance answers a request."""

    def lease(self, model: str | None, resolution: int | str | None, shorter_side: int | None) -> AbstractAsyncContextManager[Instance]:
        """The instance named ``model``, else one of ``resolution`` (224, 448, 896 or "auto"), else the default. It stays warm meanwhile.

        ``shorter_side`` of the picture, in pixels, is known where ``resolution`` is "auto". Errors: ModelNotFound, ModelNotReady.
        """
        ...
