"""A service without a model behind the real REST application, and ways to call it."""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import httpx
from fastapi import FastAPI

from service.access.gate import Gate
from service.access.keys import Key, Limits, Role, digest
from service.errors import ImageUrlForbidden, ModelNotFound, Overloaded, PaliServeError
from service.instances.description import ModelDescription
from service.observability.metrics import Metrics
from service.tasks.asks import Options
from service.tasks.callers import admission
from service.tasks.prompts import CaptionStyle
from service.tasks.results import Answer, Box, Detection, ImageSize, MaskFormat, RleMask, Segment, TaskResult, Timings, Usage
from service.tasks.streaming import Progress
from service.tasks.tasks import Tasks
from service.transports.budget import Budget
from service.transports.rest.application import create_application
from service.transports.rest.guard import Access, Offered
from tests.fakes import shelf

IMAGE = b"\x89PNG and the rest of it"
IMAGE_TEXT = base64.b64encode(IMAGE).decode()
MAX_IMAGE_BYTES = 3000
ADMIN_KEY = "the admin key"
KEYS = (
    Key("user", digest("user's")),
    Key("admin", digest("admin's"), Role.ADMIN),
    Key("slow", digest("slow's"), limits=Limits(requests_per_minute=3, images_per_minute=4, concurrent=2)),
)
"""Sent as the name and 's."""

BOX = {"x_min": 1.0, "y_min": 2.0, "x_max": 30.0, "y_max": 40.0}
OWN_FIELDS: dict[str, dict[str, Any]] = {
    "caption": {},
    "answer": {"question": "what is it?"},
    "detect": {"objects": ["cat"]},
    "segment": {"objects": ["cat"]},
    "read": {},
    "caption-region": {"box": BOX},
    "generate": {"prompt": "caption en"},
}
"""What each task needs besides its image."""

DETECTION = Detection("cat", Box(1.0, 2.0, 30.5, 40.0), 0.75)
SEGMENT = Segment("cat", Box(1.0, 2.0, 30.5, 40.0), 0.75, RleMask((48, 64), "abc"))


def result(task: str, detections: tuple[Detection, ...] = (), segments: tuple[Segment, ...] = (), text: str = " some text ") -> TaskResult:
    """What the fake answers."""
    size, usage, timings = ImageSize(64, 48), Usage(256, 4, 3), Timings(1, 2, 3, 4, 5, 15)
    return TaskResult(Answer("fake-224", task, "the prefix", text, "stop", 0.5, size, usage, timings), detections, segments)


class FakeTasks:
    """Stands in for ``Tasks``: keeps what it was called with, answers ``results`` or raises ``error``; never comes back where ``hold``.

    Who listens is told of ``events`` first.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.error: Exception | None = None
        self.results: dict[str, TaskResult] = {}
        self.events: list[Progress] = []
        self.hold = False
        self.entered = asyncio.Event()
        self.left = asyncio.Event()
        self.cancelled = False
        self._released = asyncio.Event()
        self._failing: Exception | None = None
        self._more = asyncio.Condition()

    def release(self) -> None:
        """Let what is held, and what comes, go on."""
        self.hold = False
        self._released.set()

    def fail_first(self, error: Exception) -> None:
        """Let one of what is held fail; the rest is held on."""
        self._failing = error
        self._released.set()

    async def called(self, count: int) -> None:
        """Until it was called so often."""
        async with self._more:
            await self._more.wait_for(lambda: len(self.calls) >= count)

    async def caption(self, image: bytes, options: Options, language: str, style: CaptionStyle) -> TaskResult:
        return await self._reply("caption", image, options, language, style)

    async def answer(self, image: bytes, options: Options, question: str, language: str) -> TaskResult:
        return await self._reply("answer", image, options, question, language)

    async def detect(self, image: bytes, options: Options, objects: Sequence[str]) -> TaskResult:
        return await self._reply("detect", image, options, objects)

    async def segment(self, image: bytes, options: Options, objects: Sequence[str], mask_format: MaskFormat) -> TaskResult:
        return await self._reply("segment", image, options, objects, mask_format)

    async def read(self, image: bytes, options: Options) -> TaskResult:
        return await self._reply("read", image, options)

    async def caption_region(self, image: bytes, options: Options, box: Box) -> TaskResult:
        return await self._reply("caption-region", image, options, box)

    async def generate(self, image: bytes, options: Options, prompt: str, mask_format: MaskFormat = MaskFormat.RLE) -> TaskResult:
        return await self._reply("generate", image, options, prompt, *([] if mask_format is MaskFormat.RLE else [mask_format]))

    async def _reply(self, task: str, *arguments: Any) -> TaskResult:
        options: Options = arguments[1]
        # As the tasks do.
        with admission.get().request(1 + len(options.further)):
            return await self._admitted(task, *arguments)

    async def _admitted(self, task: str, *arguments: Any) -> TaskResult:
        options: Options = arguments[1]
        self.calls.append((task, *arguments))
        if options.listener is not None:
            for event in self.events:
                options.listener(event)
        self.entered.set()
        async with self._more:
            self._more.notify_all()
        if self.hold:
            try:
                await self._released.wait()
                if self._failing:
                    self._released.clear()
                    error, self._failing = self._failing, None
                    raise error
                if self.hold:
                    await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled = True
                self.left.set()
                raise
        if self.error:
            raise self.error
        detections = (DETECTION,) if task in ("detect", "generate") else ()
        segments = (SEGMENT,) if task in ("segment", "generate") else ()
        return self.results.get(task) or result(task, detections, segments)


class FakeService:
    """A ``Service`` with one model."""

    def __init__(self) -> None:
        self.fake = FakeTasks()
        self.refusal: PaliServeError | None = None
        self.full = False
        self.inside = 0
        self.refused = 0
        self.lives = True
        self.state = "warm"
        self.shelf = shelf(2)
        self.fetched: list[str] = []
        self.at_url: bytes | Exception = ImageUrlForbidden("No URLs here.")

    @property
    def tasks(self) -> Tasks:
        return cast("Tasks", self.fake)

    def models(self) -> Sequence[ModelDescription]:
        return [
            ModelDescription(
                "fake-224", 224, "float32", "cpu", self.state, tuple(OWN_FIELDS), self.shelf.names, 1024, "fake", 1_700_000_000
            )
        ]

    def model(self, name: str) -> ModelDescription:
        if name != "fake-224":
            raise ModelNotFound("There is no such model; there are fake-224.")
        return self.models()[0]

    async def load(self, name: str) -> ModelDescription:
        self.model(name)
        self.state = "warm"
        return self.model(name)

    async def unload(self, name: str) -> ModelDescription:
        self.model(name)
        self.state = "cold"
        return self.model(name)

    async def load_adapter(self, name: str, adapter: str, source: str, revision: str | None) -> ModelDescription:
        await self.shelf.load(adapter, source, revision)
        return self.model(name)

    async def unload_adapter(self, name: str, adapter: str) -> ModelDescription:
        await self.shelf.unload(adapter)
        return self.model(name)

    def alive(self) -> bool:
        return self.lives

    async def fetch_image(self, url: str) -> bytes:
        self.fetched.append(url)
        if isinstance(self.at_url, Exception):
            raise self.at_url
        return self.at_url

    def ready(self) -> None:
        if self.refusal:
            raise self.refusal

    def crowded(self) -> bool:
        return self.full

    def has_room(self) -> bool:
        return not self.full

    @contextmanager
    def room(self) -> Iterator[None]:
        if self.full:
            self.refused += 1
            raise Overloaded("The queue of fake is full: 256 requests are waiting. Try again later.", 3.0)
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1


class Rest:
    """The real application over a fake service."""

    def __init__(self) -> None:
        self.service = FakeService()
        self.metrics = Metrics("0")
        self.budget = Budget(10_000_000)
        self.serve(Access(Gate(lambda: (Key("admin_key", digest(ADMIN_KEY), Role.ADMIN),))))

    def serve(self, access: Access, offered: Offered | None = None) -> None:
        """Stand behind another door."""
        self.application: FastAPI = create_application(
            self.service, self.metrics, MAX_IMAGE_BYTES, access, offered=offered, budget=self.budget
        )

    @property
    def fake(self) -> FakeTasks:
        return self.service.fake

    def call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """One request, through a client that speaks HTTP."""

        async def once() -> httpx.Response:
            # Nothing may come through the application as an exception: the transport would raise it here.
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.application), base_url="http://test") as client:
                return await client.request(method, path, **arguments)

        return asyncio.run(asyncio.wait_for(once(), 20))

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        return self.call("GET", path, **arguments)

    def json(self, task: str, fields: Mapping[str, Any] | None = None, **arguments: Any) -> httpx.Response:
        """A task asked in JSON; ``fields`` over what the task needs."""
        return self.call("POST", f"/v1/{task}", json={"image": IMAGE_TEXT} | OWN_FIELDS[task] | dict(fields or {}), **arguments)

    def raw(self, task: str, content: bytes | AsyncIterator[bytes], kind: str = "application/json", **headers: str) -> httpx.Response:
        """A task asked with these very bytes."""
        return self.call("POST", f"/v1/{task}", content=content, headers={"content-type": kind} | headers)

    def form(self, task: str, fields: Mapping[str, Any] | None = None, image: bytes = IMAGE) -> httpx.Response:
        """A task asked with a form; ``fields`` as the form has them."""
        return self.call("POST", f"/v1/{task}", files={"image": ("x.png", image)}, data=dict(fields or {}))

    def counted(self) -> list[str]:
        """The lines of the requests' counter."""
        body, _ = self.metrics.exposition()
        return [line for line in body.decode().splitlines() if line.startswith("paliserve_requests_total")]


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document, which must be one."""
    assert response.status_code == status, response.text[:500]
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["type"] == f"urn:paliserve:error:{code}"
    assert body["code"] == code
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == response.headers["x-request-id"]
    assert len(response.content) < 8000
    return body


def fields_of(body: Mapping[str, Any]) -> list[str]:
    """The fields that a problem document names."""
    return [each["field"] for each in body["errors"]]
