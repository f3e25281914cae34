"""What the service costs around the model: processor time of a REST request, and of a step of the loop, with runners that do nothing.

The server is a process of its own: the real application, tasks, engine and device loop over real sockets, with a model that answers at once
and pictures that are not decoded. The requests come from this process, each with a JPEG of about 20 kB as base64 in JSON or as a form.
"""

import asyncio
import base64
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import numpy as np
import uvicorn
from PIL import Image

from load_tests.report import spread, write
from load_tests.rivals.http_framing import Connection, get, post
from service.engine.device import Submission
from service.engine.device_loop import DeviceLoop
from service.engine.engine import Engine, EngineLimits
from service.engine.runner import Sampled
from service.engine.vision_cache import VisionCache
from service.errors import ImageUrlForbidden
from service.instances.catalogue import Catalogue
from service.instances.description import ModelDescription
from service.instances.instance import Instance
from service.observability.metrics import Metrics
from service.serving import event_loop
from service.tasks.tasks import Tasks
from service.transports.rest.application import create_application
from tests.fakes import LEXICON, CountingRunner, FakeModel, generation

ROUNDS, REQUESTS, CALLERS, LIVE = 5, 2000, 32, 32


class IdleRunner(CountingRunner):
    """Does nothing: every token is the same."""

    def decode(self, slots: range) -> Sampled:
        return Sampled([200] * len(slots), [0.5] * len(slots))


class Service:
    """What a transport is given, around the fake model."""

    def __init__(self) -> None:
        self.metrics = Metrics("bench")
        self.device = DeviceLoop()
        model = FakeModel(slots=LIVE)
        engine = Engine("fake", self.device, EngineLimits(queue=1000), self.metrics)
        engine.load(lambda threads: model.runner)
        description = ModelDescription("fake", 224, "float32", "cpu", "warm", (), (), 1024, "fake", 0)
        pictures = VisionCache("fake", 0, 1, self.metrics)
        self.catalogue = Catalogue([Instance(description, model, engine, pictures, LEXICON)])
        self.tasks = Tasks(self.catalogue, lambda image: (64, 48), ThreadPoolExecutor(4), 60.0)

    def models(self) -> Sequence[ModelDescription]:
        """See ``ports.Service``."""
        return self.catalogue.descriptions()

    def model(self, name: str) -> ModelDescription:
        """See ``ports.Service``."""
        return self.catalogue.named(name).description

    async def fetch_image(self, url: str) -> bytes:
        """See ``ports.Service``."""
        raise ImageUrlForbidden(url)

    def alive(self) -> bool:
        """See ``ports.Service``."""
        return True

    def ready(self) -> None:
        """See ``ports.Service``."""


def serve(port: int) -> None:
    """The server's process; ``GET /processor-time`` tells what it used so far."""
    service = Service()
    service.device.start()
    application = create_application(service, service.metrics, 20_000_000)

    @application.get("/processor-time")
    def used() -> dict[str, float]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {"seconds": usage.ru_utime + usage.ru_stime}

    config = uvicorn.Config(application, port=port, http="h11", ws="none", log_config=None, access_log=False, server_header=False)
    with asyncio.Runner(loop_factory=event_loop()) as runner:
        runner.run(uvicorn.Server(config).serve())


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


async def cost(port: int, raw: bytes) -> float:
    """Milliseconds of the server's processor time for each request."""
    control = Connection(port)

    async def used() -> float:
        _, body = await control.ask(get("/processor-time"))
        return float(body.split(b":")[1].strip(b" }"))

    async def caller(count: int) -> None:
        connection = Connection(port)
        for _ in range(count):
            status, body = await connection.ask(raw)
            if status != 200:
                raise RuntimeError(body[:500])
        connection.close()

    await caller(50)
    before = await used()
    await asyncio.gather(*(caller(REQUESTS // CALLERS) for _ in range(CALLERS)))
    took = await used() - before
    control.close()
    return 1000 * took / (REQUESTS // CALLERS * CALLERS)


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


def main() -> None:
    """Measure and write the results."""
    port = 18473
    server = subprocess.Popen([sys.executable, "-m", "load_tests.front_end", "serve", str(port)])
    figures: dict[str, Any] = {}
    try:
        asyncio.run(wait_for(port))
        costs: dict[str, list[float]] = {name: [] for name in requests()}
        for _ in range(ROUNDS):
            for name, raw in requests().items():
                costs[name].append(asyncio.run(cost(port, raw)))
    finally:
        server.terminate()
        server.wait()
    rows = [(f"{name}: ms of processor time per request", spread(values)) for name, values in costs.items()]
    steps = [step_cost() for _ in range(ROUNDS)]
    rows.append((f"a step of the loop at {LIVE} live requests, µs", spread(steps)))
    figures |= {"ms per request": costs, "µs per step": steps, "medians": {name: statistics.median(each) for name, each in costs.items()}}
    write("front_end", "What it costs around the model", "make bench-front-end", rows, figures)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(int(sys.argv[2]))
    else:
        main()
