"""A model of this process labels, without a server."""

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from service.asking import asked_instance, opened, unhurried
from service.errors import ModelNotReady
from service.labelling.labelled import Labelled, of_response
from service.labelling.prompt import LabelPrompt
from service.model.loading import held_as
from service.planning import source
from service.settings import Settings
from service.tasks.asks import Options
from service.transports.responses import detect_response, segment_response
from service.wiring import PaliServe


class LocalLabeller:
    """Loads the instance in processes of its own, as a server does."""

    def __init__(self, settings: Settings, model: str | None, prompt: LabelPrompt, concurrent: int) -> None:
        """Errors: OperatorError."""
        # No picture comes twice.
        self._instance = asked_instance(settings, model).model_copy(update={"vision_cache_bytes": 0})
        self._settings = unhurried(settings, concurrent).model_copy(update={"instances": (self._instance,)})
        self._prompt = prompt
        self._service: PaliServe | None = None

    async def identity(self) -> Mapping[str, str]:
        """See ``Labeller``. Nothing is loaded to know it."""
        instance = self._instance
        _, dtype = held_as(source(instance, self._settings))
        return {"model": instance.name, "source": _told(instance.source, instance.revision), "dtype": dtype}

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """See ``Labeller``."""
        async with opened(self._settings, self._instance.name) as self._service:
            yield
        self._service = None

    async def label(self, image: bytes) -> Labelled:
        """See ``Labeller``."""
        if self._service is None:
            raise ModelNotReady(f"{self._instance.name} is not loaded.")
        # Strict: what could not be read back, or has a name that nobody asked for, is not written.
        tasks, options = self._service.tasks, Options(model=self._instance.name, strict=True)
        if self._prompt.masks:
            result = await tasks.segment(image, options, self._prompt.names)
            return of_response(segment_response(result, uuid.uuid4().hex).model_dump(mode="json"))
        result = await tasks.detect(image, options, self._prompt.names)
        return of_response(detect_response(result, uuid.uuid4().hex).model_dump(mode="json"))


def _told(where: str, revision: str | None) -> str:
    """A folder with all of its path, for two models may stand in folders of one name; or a hub id with its revision."""
    if Path(where).is_dir():
        return str(Path(where).resolve())
    return f"{where}, {revision}" if revision else where
