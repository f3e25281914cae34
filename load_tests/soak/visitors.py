"""Those who come: good ones, wrong ones, and ones who leave too early, over REST and gRPC, some of them for streams."""

import asyncio
import base64
import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from typing import Any

import grpc

from load_tests.rivals.workloads import Request
from service.bench.http_connection import Connection
from service.bench.http_framing import post
from service.transports.grpc.generated import paligemma_pb2 as pb
from service.transports.grpc.generated import paligemma_pb2_grpc

PATIENCE = 60.0
"""Seconds that a visitor waits."""

STAY = (0.0, 0.2)
"""Seconds after which those leave who do not wait for their answer: in preprocessing, in the queue, or while it is written."""

CHANNELS = 4


class Outcome(Enum):
    """REJECTED: a wrong request was told what is wrong with it. UNEXPLAINED: anything that nobody asked for."""

    ANSWERED = "answered"
    REJECTED = "rejected"
    REFUSED = "refused"
    LEFT = "left"
    UNEXPLAINED = "unexplained"


Visit = Callable[[Request], Awaitable[Outcome]]


class Visitors:
    """Clients of one server. ``unexplained`` holds what was heard where it is none of the other outcomes."""

    def __init__(self, port: int, grpc_port: int, seed: int) -> None:
        self._port = port
        self._chance = random.Random(seed)
        self._idle: list[Connection] = []
        channels = [grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}", [("grpc.use_local_subchannel_pool", 1)]) for _ in range(CHANNELS)]
        self._channels = channels
        self._stubs: list[Any] = [paligemma_pb2_grpc.PaliGemmaServiceStub(each) for each in channels]  # type: ignore[no-untyped-call]
        self.unexplained: list[str] = []
        shares: Mapping[Visit, int] = {
            self.rest: 35, self.events: 12, self.wrong_rest: 10, self.leaving_rest: 6,
            self.unary: 20, self.stream: 8, self.wrong_grpc: 5, self.leaving_grpc: 4,
        }  # fmt: skip
        self.kinds = {visit.__name__: share for visit, share in shares.items()}
        self._visits, self._shares = list(shares), list(shares.values())

    def choose(self) -> tuple[str, Visit]:
        """The next one's name, and what it does."""
        visit = self._chance.choices(self._visits, self._shares)[0]
        return visit.__name__, visit

    async def close(self) -> None:
        """End all connections."""
        for connection in self._idle:
            connection.close()
        for channel in self._channels:
            await channel.close()

    async def rest(self, request: Request) -> Outcome:
        """One of the seven tasks, as JSON."""
        status, body = await self._ask(request.ours())
        return self._judged(status == 200, status == 503, f"{status} {body[:200]!r}")

    async def wrong_rest(self, request: Request) -> Outcome:
        """A picture that is none, broken JSON, a field or a model that does not exist, a path that leads nowhere."""
        image = base64.b64encode(request.image).decode()
        raw, expected = self._chance.choice([
            (post("/v1/caption", {"image": base64.b64encode(request.image[:200]).decode()}), {415, 422}),
            (post("/v1/caption", {"image": image, "max_tokens": 0}), {422}),
            (post("/v1/caption", {"image": image, "colour": "red"}), {422}),
            (post("/v1/caption", {"image": image, "model": "nobody"}), {404}),
            (post("/v1/nothing", {"image": image}), {404}),
            (post("/v1/caption", {}).replace(b"{}", b"{["), {400, 422}),
        ])  # fmt: skip
        status, body = await self._ask(raw)
        return self._judged(status in expected, status == 503, f"{status} {body[:200]!r}", Outcome.REJECTED)

    async def events(self, request: Request) -> Outcome:
        """A stream of server-sent events until its result."""
        whole = await self._read_events(request)
        complete = whole.startswith(b"HTTP/1.1 200") and b"event: result" in whole
        return self._judged(complete, whole.startswith(b"HTTP/1.1 503"), repr(whole[:100] + whole[-200:]))

    async def leaving_rest(self, request: Request) -> Outcome:
        """Sends all, and closes the connection."""
        connection = Connection(self._port)
        try:
            async with asyncio.timeout(self._chance.uniform(*STAY)):
                await connection.ask(request.ours())
        except TimeoutError:
            pass
        finally:
            connection.close()
        return Outcome.LEFT

    async def unary(self, request: Request) -> Outcome:
        """A call with one answer."""
        return await self._call(self._stub().Generate(_generate(request), timeout=PATIENCE))

    async def stream(self, request: Request) -> Outcome:
        """A call with a stream of answers."""

        async def read() -> None:
            fields = {"image": request.image, "prompt": request.prefix, "max_tokens": request.max_tokens, "model": request.fields["model"]}
            async for _ in self._stub().StreamGenerate(pb.StreamGenerateRequest(**fields), timeout=PATIENCE):
                pass

        return await self._call(read())

    async def wrong_grpc(self, request: Request) -> Outcome:
        """A picture that is none, a number out of range, a model that does not exist."""
        message, expected = self._chance.choice([
            (pb.GenerateRequest(image=request.image[:200], prompt="caption en"), grpc.StatusCode.INVALID_ARGUMENT),
            (pb.GenerateRequest(image=request.image, prompt="caption en", max_tokens=0), grpc.StatusCode.INVALID_ARGUMENT),
            (pb.GenerateRequest(image=request.image, prompt="caption en", model="nobody"), grpc.StatusCode.NOT_FOUND),
        ])  # fmt: skip
        return await self._call(self._stub().Generate(message, timeout=PATIENCE), expected)

    async def leaving_grpc(self, request: Request) -> Outcome:
        """Cancels its call."""
        call = self._stub().Generate(_generate(request), timeout=PATIENCE)
        await asyncio.sleep(self._chance.uniform(*STAY))
        call.cancel()
        return Outcome.LEFT

    def _stub(self) -> Any:
        return self._chance.choice(self._stubs)

    async def _call(self, call: Awaitable[Any], expected: grpc.StatusCode | None = None) -> Outcome:
        try:
            await call
        except grpc.aio.AioRpcError as error:
            refused = error.code() is grpc.StatusCode.UNAVAILABLE and any(
                name == "x-request-id" for name, _ in error.trailing_metadata() or ()
            )
            return self._judged(error.code() is expected, refused, f"{error.code().name} {error.details()}", Outcome.REJECTED)
        return self._judged(expected is None, False, "answered a wrong call")

    async def _ask(self, raw: bytes) -> tuple[int, bytes]:
        connection = self._idle.pop() if self._idle else Connection(self._port)
        try:
            async with asyncio.timeout(PATIENCE):
                status, body = await connection.ask(raw)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            connection.close()
            return 0, repr(error).encode()
        if raw.startswith(b"POST /v1/"):
            self._idle.append(connection)
        return status, body

    async def _read_events(self, request: Request) -> bytes:
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                raw = json.dumps({"image": base64.b64encode(request.image).decode(), "stream": True} | request.fields).encode()
                head = f"POST /v1/{request.task} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n"
                writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(raw) + raw)
                whole = await reader.read()
                writer.close()
        except (OSError, TimeoutError) as error:
            return repr(error).encode()
        return whole

    def _judged(self, good: bool, refused: bool, heard: str, goodness: Outcome = Outcome.ANSWERED) -> Outcome:
        if good or refused:
            return goodness if good else Outcome.REFUSED
        self.unexplained.append(heard)
        return Outcome.UNEXPLAINED


def _generate(request: Request) -> pb.GenerateRequest:
    fields = {"image": request.image, "prompt": request.prefix, "max_tokens": request.max_tokens, "model": request.fields["model"]}
    return pb.GenerateRequest(**fields)


def shares(kinds: Mapping[str, int]) -> Sequence[str]:
    """In words, the most first."""
    return [f"{name.replace('_', ' ')} {share} %" for name, share in sorted(kinds.items(), key=lambda each: -each[1])]
