"""How the messages of a call come in: within a time, and within the budget of the process."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from service.errors import DeadlineExceeded, MalformedBody
from service.transports.budget import Hold

Deserializer = Callable[[bytes], Message]
T = TypeVar("T")


async def first(sent: AsyncIterator[bytes], seconds: float) -> bytes:
    """The one message of a call. The library itself waits for it as long as the client likes. Errors: DeadlineExceeded, MalformedBody."""
    try:
        async with asyncio.timeout(seconds):
            return await anext(sent)
    except TimeoutError:
        raise DeadlineExceeded(f"The message did not come within {seconds:g} s.") from None
    except StopAsyncIteration:
        raise MalformedBody("The call ended without a message.") from None


async def one(deserialize: Deserializer, seconds: float, sent: AsyncIterator[bytes], hold: Hold) -> Message:
    """The one message of a call, read, and held by ``hold``. Errors: those of ``first``, and Overloaded."""
    raw = await first(sent, seconds)
    hold.take(len(raw))
    return decoded(deserialize, raw)


async def each(deserialize: Deserializer, sent: AsyncIterator[bytes]) -> AsyncGenerator[Message, None]:
    """The messages of a stream, read; whoever takes them holds them. Errors: MalformedBody."""
    async for raw in sent:
        yield decoded(deserialize, raw)


async def unless_idle(sent: AsyncIterator[T], seconds: float, is_idle: Callable[[], bool]) -> AsyncGenerator[T, None]:
    """The same, until nothing came for so long while nothing else was to be waited for. Errors: DeadlineExceeded."""
    while True:
        coming = asyncio.ensure_future(anext(sent, None))
        try:
            while not coming.done():
                await asyncio.wait({coming}, timeout=seconds)
                if not coming.done() and is_idle():
                    raise DeadlineExceeded(f"Nothing was asked for {seconds:g} s: open another stream.")
        finally:
            coming.cancel()
        if (found := coming.result()) is None:
            return
        yield found


def decoded(deserialize: Deserializer, raw: bytes) -> Message:
    """A message. Errors: MalformedBody."""
    # Not left to the library, which tells the client of an exception by its class.
    try:
        return deserialize(raw)
    except DecodeError:
        raise MalformedBody("The message cannot be read: it is broken, or not of this call's kind.") from None
