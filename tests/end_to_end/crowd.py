"""Clients by the hundred, in the four ways that there are to ask: what became of each request."""

import asyncio
import base64
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from io import BytesIO
from typing import Any

import grpc
from PIL import Image

from service.transports.grpc.generated import paligemma_pb2 as pb
from service.transports.grpc.generated import paligemma_pb2_grpc

CHANNELS = 8
LONGEST = 240.0
"""Seconds that a client waits."""


class Outcome(Enum):
    """How a request ended for its client.

    REFUSED: the server said that it takes none. TURNED_AWAY: nothing listened. LOST: it was sent, and no whole answer came back.
    """

    ANSWERED = "answered"
    REFUSED = "refused"
    TURNED_AWAY = "turned away"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Ended:
    """One request that has ended; ``server`` is what a balancer calls the one who answered, ``said`` what was heard of one that is lost."""

    way: str
    outcome: Outcome
    server: str = ""
    said: str = ""


def picture() -> bytes:
    """A small one, the same always: only the first request pays for seeing it."""
    file = BytesIO()
    Image.new("RGB", (48, 48), (200, 30, 30)).save(file, "PNG")
    return file.getvalue()


@dataclass(slots=True)
class Crowd:
    """Asks one address. ``ended`` grows with each request that has ended."""

    http: int
    grpc: str
    image: bytes = field(default_factory=picture)
    fields: dict[str, Any] = field(default_factory=lambda: {"prompt": "caption en", "max_tokens": 6})
    options: Sequence[tuple[str, Any]] = ()
    channels: int = CHANNELS
    ended: list[Ended] = field(default_factory=list)
    _channels: list[Any] = field(default_factory=list)
    _turn: int = 0

    async def plain(self) -> Outcome:
        """REST, an answer at once."""
        return await self._over_http("plain", {})

    async def events(self) -> Outcome:
        """REST, a stream of events, whose last one is the result."""
        return await self._over_http("events", {"stream": True})

    async def unary(self) -> Outcome:
        """gRPC, an answer at once."""
        request = pb.GenerateRequest(image=self.image, **self.fields)
        return await self._over_grpc("unary", lambda stub: stub.Generate(request, timeout=LONGEST))

    async def stream(self) -> Outcome:
        """gRPC, a stream, whose last message is the result."""
        request = pb.StreamGenerateRequest(image=self.image, **self.fields)

        async def ask(stub: Any) -> None:
            kinds = [event.WhichOneof("event") async for event in stub.StreamGenerate(request, timeout=LONGEST)]
            if kinds[-1:] != ["result"]:
                raise EOFError("the stream ended without its result")

        return await self._over_grpc("stream", ask)

    def tally(self) -> Counter[Outcome]:
        """How many requests ended how."""
        return Counter(each.outcome for each in self.ended)

    @property
    def lost(self) -> list[Ended]:
        """Those that were sent and not answered."""
        return [each for each in self.ended if each.outcome is Outcome.LOST]

    async def close(self) -> None:
        """Close the channels."""
        for channel in self._channels:
            await channel.close()

    def raw(self, more: dict[str, Any]) -> bytes:
        """A request that its connection ends with."""
        body = json.dumps({"image": base64.b64encode(self.image).decode()} | self.fields | more).encode()
        head = "POST /v1/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n"
        return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body

    async def _over_http(self, way: str, more: dict[str, Any]) -> Outcome:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.http)
        except OSError:
            return self.end(way, Outcome.TURNED_AWAY)
        try:
            writer.write(self.raw(more))
            async with asyncio.timeout(LONGEST):
                whole = await reader.read()
        except (OSError, TimeoutError) as error:
            return self.end(way, Outcome.LOST, repr(error))
        finally:
            writer.close()
        return self.end(way, *_judged(whole))

    async def _over_grpc(self, way: str, ask: Callable[[Any], Awaitable[Any]]) -> Outcome:
        if not self._channels:
            options = [("grpc.use_local_subchannel_pool", 1), *self.options]
            self._channels = [grpc.aio.insecure_channel(self.grpc, options) for _ in range(self.channels)]
        self._turn += 1
        stub = paligemma_pb2_grpc.PaliGemmaServiceStub(self._channels[self._turn % self.channels])  # type: ignore[no-untyped-call]
        try:
            await ask(stub)
        except grpc.aio.AioRpcError as error:
            return self.end(way, *_failed(error))
        except EOFError as error:
            return self.end(way, Outcome.LOST, str(error))
        return self.end(way, Outcome.ANSWERED)

    def end(self, way: str, outcome: Outcome, said: str = "", server: str = "") -> Outcome:
        """Note how a request ended."""
        self.ended.append(Ended(way, outcome, server, said))
        return outcome


def _judged(whole: bytes) -> tuple[Outcome, str, str]:
    head, _, body = whole.partition(b"\r\n\r\n")
    named = re.search(rb"\r\nx-served-by: *(\S+)", head, re.IGNORECASE)
    server = named.group(1).decode() if named else ""
    status = head[9:12]
    if status == b"503":
        return Outcome.REFUSED, "", server
    streamed = b"text/event-stream" in head
    complete = body.endswith(b"0\r\n\r\n") and b"event: result" in body if streamed else body.endswith(b"}")
    return (Outcome.ANSWERED, "", server) if status == b"200" and complete else (Outcome.LOST, repr(whole[-200:]), server)


def _failed(error: grpc.aio.AioRpcError) -> tuple[Outcome, str]:
    said = f"{error.code().name} {error.details()}"
    if error.code() is not grpc.StatusCode.UNAVAILABLE:
        return Outcome.LOST, said
    # Whatever our server answers carries an id.
    if any(name == "x-request-id" for name, _ in error.trailing_metadata() or ()):
        return Outcome.REFUSED, ""
    return (Outcome.TURNED_AWAY, "") if "onnect" in said and "reset" not in said.lower() else (Outcome.LOST, said)
