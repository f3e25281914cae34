"""What the service costs around the model: processor time of a request, of a streamed token, and of a step, with runners that do nothing.

The server is a process of its own: the real transports, tasks, engine and device loop over real sockets, with a model that answers at once
and pictures that are not decoded. The requests come from this process, each with a JPEG of about 20 kB: over REST as base64 in JSON or as a
form, over gRPC as bytes.
"""

import asyncio
import base64
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from typing import Any, cast

import grpc
import numpy as np
import uvicorn
from PIL import Image

from load_tests.report import spread, write
from service.bench.http_connection import Connection
from service.bench.http_framing import get, post
from service.engine.device import Submission
from service.engine.device_loop import DeviceLoop
from service.engine.engine import Engine, EngineLimits
from service.engine.runner import Sampled
from service.engine.vision_cache import VisionCache
from service.errors import ImageUrlForbidden, Overloaded
from service.instances.catalogue import Catalogue
from service.instances.description import ModelDescription
from service.instances.instance import Instance
from service.instances.keeper import Keeper, Upkeep
from service.observability.metrics import Metrics
from service.observability.tracing import PassedOn
from service.serving import event_loop
from service.tasks.tasks import Tasks
from service.transports.grpc.generated import paligemma_pb2 as pb
from service.transports.grpc.generated import paligemma_pb2_grpc
from service.transports.grpc.server import GrpcServer, Limits
from service.transports.rest.application import create_application
from service.transports.rest.connections import ConnectionLimits, Connections
from service.transports.rest.guard import Access
from service.transports.rest.receipts import Times
from service.transports.rest.turnstile import Turnstile
from service.transports.visits import VisitBook
from tests.fakes import LEXICON, CountingRunner, FakeModel, generation, shelf

ROUNDS, REQUESTS, CALLERS, LIVE = 5, 2000, 32, 32
REFUSED = "caption, JSON, refused by a full service"
TOKENS = 500
"""Of each stream."""

STREAMS = 64
ASK_AT_LENGTH = " ".join(["x"] * TOKENS)
"""The fake answers with as many tokens as the prefix has words."""


class IdleRunner(CountingRunner):
    """Does nothing: every token is the same."""

    def decode(self, slots: range) -> Sampled:
        return Sampled([200] * len(slots), [0.5] * len(slots))


class Service:
    """What a transport is given, around the fake model."""

    def __init__(self) -> None:
        self.is_full = False
        self.metrics = Metrics("bench")
        self.device = DeviceLoop()
        model = FakeModel(slots=LIVE)
        engine = Engine("fake", self.device, EngineLimits(queue=1000), self.metrics)
        engine.load(lambda threads: model.runner)
        description = ModelDescription("fake", 224, "float32", "cpu", "warm", (), (), 1024, "fake", 0)
        pictures = VisionCache("fake", 0, 1, self.metrics)
        instance = Instance(description, model, engine, pictures, LEXICON, shelf())

        async def load(name: str) -> Instance:
            return instance

        async def unload(dropped: Instance) -> None:
            """There is no other."""

        upkeep = Upkeep(load, unload, lambda name, state: None, self.metrics.request_refused, asyncio.Lock())
        self.catalogue = Catalogue([Keeper(description, True, 1000, upkeep)])
        workers = ThreadPoolExecutor(4)
        self.tasks = Tasks(self.catalogue, lambda image: (64, 48), workers, workers, 60.0)

    def models(self) -> Sequence[ModelDescription]:
        """See ``ports.Service``."""
        return self.catalogue.descriptions()

    def model(self, name: str) -> ModelDescription:
        """See ``ports.Service``."""
        return self.catalogue.named(name).description

    async def load(self, name: str) -> ModelDescription:
        """See ``ports.Service``."""
        return self.model(name)

    async def unload(self, name: str) -> ModelDescription:
        """See ``ports.Service``."""
        return self.model(name)

    async def load_adapter(self, name: str, adapter: str, source: str, revision: str | None) -> ModelDescription:
        """Not asked for here."""
        raise NotImplementedError

    async def unload_adapter(self, name: str, adapter: str) -> ModelDescription:
        """Not asked for here."""
        raise NotImplementedError

    async def fetch_image(self, url: str) -> bytes:
        """See ``ports.Service``."""
        raise ImageUrlForbidden(url)

    def alive(self) -> bool:
        """See ``ports.Service``."""
        return True

    def ready(self) -> None:
        """See ``ports.Service``."""

    def crowded(self) -> bool:
        """See ``ports.Service``."""
        return self.is_full

    def has_room(self) -> bool:
        """See ``ports.Service``."""
        return not self.is_full

    @contextmanager
    def room(self) -> Iterator[None]:
        """See ``ports.Service``."""
        if self.is_full:
            raise Overloaded("The service is full: 300 requests are inside. Try again later.", 2.0)
        yield


def serve(port: int) -> None:
    """The server's process, with gRPC on the next port; ``GET /processor-time`` tells what it used so far."""
    service = Service()
    service.device.start()
    application = create_application(service, service.metrics, 20_000_000)

    @application.get("/processor-time")
    def used() -> dict[str, float]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {"seconds": usage.ru_utime + usage.ru_stime}

    @application.get("/full/{full}")
    async def fill(full: bool) -> None:
        service.is_full = full

    async def both() -> None:
        grpc_server = GrpcServer(
            service, service.metrics, Limits(4_000_000, 512, 128, 60.0, 20.0, 10.0, None), reflected=False, version="0"
        )
        await grpc_server.start("127.0.0.1", port + 1)
        connections = Connections(ConnectionLimits(2048, 1024, Times(10.0, 30.0, 60.0, 32_000)), service.metrics)
        connections.entrance = Turnstile(service, Access(), VisitBook("rest", service.metrics, PassedOn()))
        protocol = cast("type[asyncio.Protocol]", connections.protocol)
        config = uvicorn.Config(application, port=port, http=protocol, ws="none", log_config=None, access_log=False, server_header=False)
        await uvicorn.Server(config).serve()

    with asyncio.Runner(loop_factory=event_loop()) as runner:
        runner.run(both())


def picture() -> bytes:
    """A JPEG of about 20 kB."""
    noise = np.random.default_rng(1).integers(0, 256, (56, 56, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(noise).resize((224, 224)).save(file, "JPEG", quality=90)
    return file.getvalue()


def requests() -> dict[str, bytes]:
    """One request of each form, whole."""
    image = picture()
    boundary = "5f0c27a1"
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'.encode()]
    parts += [image, f"\r\n--{boundary}--\r\n".encode()]
    form = b"".join(parts)
    head = f"POST /v1/caption HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary={boundary}\r\n"
    text = base64.b64encode(image).decode()
    return {
        "caption, JSON": post("/v1/caption", {"image": text}),
        "caption, form": f"{head}Content-Length: {len(form)}\r\n\r\n".encode() + form,
        "detect, JSON": post("/v1/detect", {"image": text, "objects": ["cat", "dog"]}),
    }


class Meter:
    """The server's processor time."""

    def __init__(self, port: int) -> None:
        self._control = Connection(port)

    async def used(self) -> float:
        """Seconds so far."""
        _, body = await self._control.ask(get("/processor-time"))
        return float(body.split(b":")[1].strip(b" }"))

    def close(self) -> None:
        """Give the connection back."""
        self._control.close()


async def rest_cost(port: int, raw: bytes, expected: int = 200) -> float:
    """Milliseconds of the server's processor time for each request, which is answered with the status ``expected``."""

    async def caller(count: int) -> None:
        connection = Connection(port)
        for _ in range(count):
            status, body = await connection.ask(raw)
            if status != expected:
                raise RuntimeError(body[:500])
        connection.close()

    return await _cost(port, caller)


def stub(channel: grpc.aio.Channel) -> Any:
    """The client's side of the service."""
    return paligemma_pb2_grpc.PaliGemmaServiceStub(channel)  # type: ignore[no-untyped-call]


async def grpc_cost(port: int, name: str, request: Any) -> float:
    """Milliseconds of the server's processor time for each call."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port + 1}") as channel:
        method = getattr(stub(channel), name)

        async def caller(count: int) -> None:
            for _ in range(count):
                await method(request)

        return await _cost(port, caller)


async def refusal_cost(port: int, raw: bytes) -> float:
    """Milliseconds of the server's processor time for each request that it refuses because it is full."""
    control = Connection(port)
    await control.ask(get("/full/true"))
    cost = await rest_cost(port, raw, 503)
    await control.ask(get("/full/false"))
    control.close()
    return cost


async def _cost(port: int, caller: Callable[[int], Awaitable[None]]) -> float:
    meter = Meter(port)
    await caller(50)
    before = await meter.used()
    await asyncio.gather(*(caller(REQUESTS // CALLERS) for _ in range(CALLERS)))
    took = await meter.used() - before
    meter.close()
    return 1000 * took / (REQUESTS // CALLERS * CALLERS)


async def rest_stream(port: int) -> int:
    """One stream over SSE; returns its tokens."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    fields = {"image": base64.b64encode(picture()).decode(), "prompt": ASK_AT_LENGTH, "max_tokens": 1024, "stream": True}
    writer.write(post("/v1/generate", fields).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
    tokens = 0
    while line := await reader.readline():
        tokens += line.startswith(b"event: token")
    writer.close()
    return tokens


async def grpc_stream(port: int) -> int:
    """One stream over gRPC; returns its tokens."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port + 1}", options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
        request = pb.StreamGenerateRequest(image=picture(), prompt=ASK_AT_LENGTH, max_tokens=1024)
        tokens = 0
        async for event in stub(channel).StreamGenerate(request):
            tokens += event.WhichOneof("event") == "token"
    return tokens


async def stream_rates(port: int, one: Callable[[int], Awaitable[int]]) -> tuple[float, float]:
    """Tokens for each second of the server's processor time, and for each second of the clock, of ``CALLERS`` streams at once."""
    meter, room = Meter(port), asyncio.Semaphore(CALLERS)

    async def in_turn() -> int:
        async with room:
            return await one(port)

    before, began = await meter.used(), time.perf_counter()
    tokens = sum(await asyncio.gather(*(in_turn() for _ in range(STREAMS))))
    took = time.perf_counter() - began
    used = await meter.used() - before
    meter.close()
    if tokens != STREAMS * TOKENS:
        raise RuntimeError(f"{tokens} tokens came, and not {STREAMS * TOKENS}")
    return tokens / used, tokens / took


def step_cost(steps: int = 3000) -> float:
    """Microseconds of Python in one decode step of the loop at 32 live requests."""
    device, runner = DeviceLoop(), IdleRunner(slots=LIVE)
    ended: list[int] = []
    device.load("idle", lambda threads: runner, 10**6, lambda report: ended.extend(number for number, _ in report.ended))
    for number in range(LIVE):
        device.submit("idle", Submission(number, generation(answer=10**9, max_tokens=steps), 0.0))
    began = time.perf_counter()
    device.start()
    device.stop()
    if len(ended) != LIVE:
        raise RuntimeError(f"{len(ended)} of {LIVE} ended")
    return 1e6 * (time.perf_counter() - began) / steps


async def wait_for(port: int) -> None:
    """Until the server answers."""
    for _ in range(600):
        try:
            await Connection(port).ask(get("/livez"))
        except OSError:
            await asyncio.sleep(0.1)
        else:
            return


def measure(port: int) -> tuple[dict[str, list[float]], dict[str, list[tuple[float, float]]]]:
    """Costs of requests and rates of streams, each once a round."""
    image = picture()
    calls = {
        "caption, gRPC": ("Caption", pb.CaptionRequest(image=image)),
        "detect, gRPC": ("Detect", pb.DetectRequest(image=image, objects=["cat", "dog"])),
    }
    streams = {"SSE": rest_stream, "gRPC": grpc_stream}
    costs: dict[str, list[float]] = {name: [] for name in (*requests(), *calls, REFUSED)}
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in streams}
    for _ in range(ROUNDS):
        for name, raw in requests().items():
            costs[name].append(asyncio.run(rest_cost(port, raw)))
        for name, (method, request) in calls.items():
            costs[name].append(asyncio.run(grpc_cost(port, method, request)))
        costs[REFUSED].append(asyncio.run(refusal_cost(port, requests()["caption, JSON"])))
        for name, one in streams.items():
            rates[name].append(asyncio.run(stream_rates(port, one)))
    return costs, rates


def main() -> None:
    """Measure and write the results."""
    port = 18473
    server = subprocess.Popen([sys.executable, "-m", "load_tests.front_end", "serve", str(port)])
    try:
        asyncio.run(wait_for(port))
        costs, rates = measure(port)
    finally:
        server.terminate()
        server.wait()
    rows = [(f"{name}: ms of processor time per request", spread(values)) for name, values in costs.items()]
    for name, values in rates.items():
        rows.append((f"{name}, {CALLERS} streams at once: tokens per second of processor time", whole(used for used, _ in values)))
        rows.append((f"{name}, {CALLERS} streams at once: tokens per second", whole(took for _, took in values)))
    steps = [step_cost() for _ in range(ROUNDS)]
    rows.append((f"a step of the loop at {LIVE} live requests, µs", spread(steps)))
    figures: dict[str, Any] = {"ms per request": costs, "tokens per second of processor time and of the clock": rates, "µs per step": steps}
    figures |= {"medians": {name: statistics.median(each) for name, each in costs.items()}}
    write("front_end", "What it costs around the model", "make bench-front-end", rows, figures)


def whole(values: Iterable[float]) -> str:
    """Median, and from the least to the most, without decimals."""
    found = list(values)
    return f"{statistics.median(found):,.0f} ({min(found):,.0f}–{max(found):,.0f})"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(int(sys.argv[2]))
    else:
        main()
