"""Plugs everything together: what every transport is given. The parts take plain values and one another."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from service.building import Builder, PictureReading, blank_picture
from service.engine.places import Places
from service.errors import Draining, InvalidRequest, ModelNotReady, OperatorError, Overloaded
from service.fetching import FetchLimits, ImageFetcher
from service.instances.catalogue import Catalogue
from service.instances.description import ModelDescription
from service.instances.instance import Instance, warm_up
from service.instances.keeper import Keeper, State, Upkeep
from service.machine import cores, free_memory_bytes, memory_bytes
from service.model.loading import set_threads
from service.observability.metrics import Metrics
from service.observability.scraped import AdapterReading, DeviceReading, Scraped
from service.settings import Settings
from service.tasks.callers import caller
from service.tasks.tasks import Tasks
from service.watchdog import Watchdog

logger = logging.getLogger(__name__)

Begin = Callable[[str, int, int], None]
"""Is told of each part of a start before it is done: what it is, how many were done before it, of how many; at last that all are done."""


class PaliServe:
    """The running service."""

    def __init__(self, settings: Settings, metrics: Metrics, begin: Begin = lambda part, done, of: None) -> None:
        """Loads every instance that is not loaded on demand; takes as long as that takes. Errors: CheckpointError."""
        self._begin = begin
        self.metrics = metrics
        self.draining = False
        self._warm = False
        self._watch: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[str, State], None]] = [lambda name, state: metrics.instance_entered(name, state.value)]
        self._fetcher = ImageFetcher(
            FetchLimits(
                settings.image_url_hosts,
                settings.image_url_http,
                settings.image_url_private,
                settings.image_url_seconds,
                settings.max_image_bytes,
            )
        )
        threads = settings.threads or cores()
        # Where the models run elsewhere, only mask decoders compute here, several at once.
        set_threads(threads if settings.workers == 0 else 1)
        self._workers = ThreadPoolExecutor(max_workers=cores(), thread_name_prefix="work")
        self._pictures = PictureReading(settings, metrics)
        self._builder = Builder(settings, metrics, self._pictures.images, threads)
        # In this thread, so that Ctrl-C ends it.
        self._built = dict(self._preloaded())
        self._loaded: dict[str, Instance] = {}
        self._inside = Places()
        metrics.watch(Scraped(self._devices, self._adapters))
        for name in self._builder.devices:
            metrics.device_added(name)
        self._bound, self._queue = settings.instance_memory_bytes, settings.max_queue
        self._upkeep = Upkeep(self._load, self._unload, self._tell, metrics.request_refused, asyncio.Lock())
        self._keepers = {name: self._keeper(name) for name in self._builder.planned}
        for name, keeper in self._keepers.items():
            self._tell(name, keeper.state)
        self._watchdog = Watchdog(self._builder.devices, self._loaded, self._is_loading, settings.step_seconds, metrics)
        self._catalogue = Catalogue(list(self._keepers.values()))
        self.tasks = Tasks(
            self._catalogue,
            self._pictures.images.size,
            self._pictures.threads,
            self._workers,
            settings.default_timeout_seconds,
            settings.vision_cache_per_caller,
        )

    async def start(self) -> None:
        """Warm up what is loaded. Errors: OperatorError."""
        await self._pictures.start()
        for device in self._builder.devices.values():
            device.start()
        self._watch = asyncio.create_task(self._watchdog.watch())
        count = len(self._built)
        for done, name in enumerate(list(self._built), start=count):
            self._begin(f"warming up {name}", done, 2 * count)
            try:
                await self._keepers[name].warm()
            except ModelNotReady as error:
                raise OperatorError(error.message) from None
        self._begin("ready", 2 * count, 2 * count)
        self._warm = True

    def observe(self, listener: Callable[[str, State], None]) -> None:
        """Tell ``listener`` the name and state of each instance, now and whenever a state changes."""
        self._listeners.append(listener)
        for name, keeper in self._keepers.items():
            listener(name, keeper.state)

    def drain(self) -> None:
        """Take nothing new from now on."""
        self.draining = True

    def idle(self) -> bool:
        """Whether no request is inside: some are still having their pictures read, and are at no engine yet."""
        working = self._inside.waiting or any(instance.engine.waiting or instance.engine.running for instance in self._loaded.values())
        return not working and not any(keeper.is_waited_for for keeper in self._keepers.values())

    async def stop(self) -> None:
        """Finish what was accepted, then end the threads."""
        self.drain()
        for keeper in self._keepers.values():
            await keeper.close()
        for device in self._builder.devices.values():
            await asyncio.to_thread(device.stop)
        await self._pictures.close()
        if self._watch is not None:
            self._watch.cancel()
        self._workers.shutdown()
        await self._fetcher.close()

    def models(self) -> Sequence[ModelDescription]:
        """What is served, the default first."""
        return self._catalogue.descriptions()

    def model(self, name: str) -> ModelDescription:
        """Errors: ModelNotFound."""
        return self._catalogue.named(name).description

    async def load(self, name: str) -> ModelDescription:
        """Load an instance that is not loaded. Errors: ModelNotFound, ModelNotReady."""
        keeper = self._catalogue.named(name)
        await keeper.warm()
        return keeper.description

    async def unload(self, name: str) -> ModelDescription:
        """Give back what an instance takes, once its requests have ended. Errors: ModelNotFound."""
        keeper = self._catalogue.named(name)
        await keeper.cool()
        return keeper.description

    async def load_adapter(self, name: str, adapter: str, source: str, revision: str | None) -> ModelDescription:
        """Let requests to an instance ask for an adapter. Errors: ModelNotFound, ModelNotReady, InvalidRequest."""
        keeper = self._catalogue.named(name)
        await keeper.load_adapter(adapter, source, revision)
        return keeper.description

    async def unload_adapter(self, name: str, adapter: str) -> ModelDescription:
        """Give an adapter back, once its requests have ended. Errors: ModelNotFound, ModelNotReady, AdapterNotFound."""
        keeper = self._catalogue.named(name)
        await keeper.unload_adapter(adapter)
        return keeper.description

    async def fetch_image(self, url: str) -> bytes:
        """See ``ImageFetcher``."""
        return await self._fetcher.fetch(url)

    def alive(self) -> bool:
        """Whether every device works and none is stuck in a step."""
        return self._watchdog.alive()

    def _devices(self) -> list[DeviceReading]:
        readings = []
        for name, device in self._builder.devices.items():
            vitals = device.vitals()
            used, total = vitals.memory or (memory_bytes() - free_memory_bytes(), memory_bytes())
            readings.append(DeviceReading(name, vitals.step_age, used, total, vitals.resident))
        return readings

    def _adapters(self) -> AdapterReading:
        shelves = [instance.adapters for instance in self._loaded.values()]
        used = sorted({name for shelf in shelves for name in shelf.used})
        return AdapterReading(sum(shelf.places for shelf in shelves), used, time.time())

    def ready(self) -> None:
        """Errors: Draining, ModelNotReady."""
        if self.draining:
            raise Draining("This process is stopping: send the request to another one.")
        if not self._warm:
            raise ModelNotReady("The models are being warmed up: try again in a few seconds.")
        if not any(device.is_ready() for device in self._builder.devices.values()):
            raise ModelNotReady("What runs the models has failed and is being replaced: try again in a few seconds.")

    def crowded(self) -> bool:
        """Whether ``room`` may refuse somebody."""
        return len(self._loaded) == len(self._keepers) and self._inside.waiting >= self._places()

    def has_room(self) -> bool:
        """Whether ``room`` lets ``caller`` in now."""
        return not self.crowded() or self._inside.has_room(caller.get(), self._places())

    @contextmanager
    def room(self) -> Iterator[None]:
        """Room for one request of ``caller``'s, from before it is read until it is answered. Errors: Overloaded.

        There is as much as the instances have places and slots; where one is left that could be loaded, there is no end to it.
        """
        who = caller.get()
        if not self.has_room():
            self.metrics.request_refused("queue_full")
            message = f"The service is full: {self._inside.waiting} requests are inside. Try again later."
            raise Overloaded(message, retry_after=max(instance.engine.wait(who) for instance in self._loaded.values()))
        self._inside.add(who)
        try:
            yield
        finally:
            self._inside.remove(who)

    def _preloaded(self) -> Iterator[tuple[str, Instance]]:
        """Loads them."""
        names = [name for name, each in self._builder.planned.items() if each.wanted.preload]
        for done, name in enumerate(names):
            self._begin(f"reading {name}", done, 2 * len(names))
            yield name, self._builder.build(name)

    def _places(self) -> int:
        """Requests that may be inside at the present pace."""
        return sum(instance.engine.most_waiting + instance.engine.slots for instance in self._loaded.values())

    def _is_loading(self) -> bool:
        return any(keeper.state is State.LOADING for keeper in self._keepers.values())

    def _keeper(self, name: str) -> Keeper:
        on_demand = not self._builder.planned[name].wanted.preload
        return Keeper(self._builder.plans[name], on_demand, self._queue, self._upkeep)

    async def _load(self, name: str) -> Instance:
        built = self._built.pop(name, None)
        if built is None:
            await self._make_room(name)
        instance = await asyncio.to_thread(self._builder.build, name) if built is None else built
        self._loaded[name] = instance
        self.metrics.instance_holds(name, instance.engine.slots, self._queue)
        began = time.monotonic()
        try:
            for adapter in self._builder.planned[name].wanted.adapters:
                await instance.adapters.load(adapter.name, adapter.source, adapter.revision)
            await warm_up(instance, blank_picture(), self._pictures.threads)
        except InvalidRequest as error:
            await self._unload(instance)
            raise OperatorError(f"{name}: {error.message}") from None
        except BaseException:
            await self._unload(instance)
            raise
        logger.info("%s is warm (%.1f s)", name, time.monotonic() - began)
        return instance

    async def _make_room(self, name: str) -> None:
        """Give back what was not used for longest, until the instance fits in the memory that instances may take of its device."""
        one = self._builder.planned[name]
        if self._bound is None or one.memory is None:
            return
        beside = {other: each for other, each in self._builder.planned.items() if other in self._loaded and each.device == one.device}
        while sum(each.memory.needed for each in beside.values() if each.memory) + one.memory.needed > self._bound:
            movable = [self._keepers[other] for other, each in beside.items() if each.may_go]
            if not movable:
                raise OperatorError(
                    f"{name} takes {one.memory.needed} bytes, and too few are free of the {self._bound} that instances may take of "
                    f"{one.device}: {', '.join(beside) or 'none'} are loaded, and are pinned or were loaded at the start."
                )
            longest = min(movable, key=lambda keeper: keeper.last_used)
            logger.info("%s gives room to %s, once its requests have ended", longest.name, name)
            await longest.cool()
            del beside[longest.name]

    async def _unload(self, instance: Instance) -> None:
        await asyncio.to_thread(instance.engine.unload)
        del self._loaded[instance.name]
        self.metrics.vision_cache_changed(instance.name, 0)
        self.metrics.instance_holds(instance.name, 0, self._queue)

    def _tell(self, name: str, state: State) -> None:
        for listener in self._listeners:
            listener(name, state)
