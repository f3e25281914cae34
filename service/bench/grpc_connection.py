"""Calls over gRPC, and the server that they lead to."""

import json
from collections.abc import AsyncIterable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from service.addresses import bearer
from service.bench.questions import Question
from service.transports.grpc.generated import paligemma_pb2 as pb

CALLS_A_CHANNEL = 50
"""At once: a server takes 100 of a connection where nothing else is set."""

SERVICE = "/paligemma.v1.PaliGemmaService/"
OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
STATUSES: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.INVALID_ARGUMENT: 422,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
"""As REST would have them."""


@dataclass(frozen=True, slots=True)
class Call:
    """A message that is ready. ``streams``: its answer comes in pieces."""

    method: str
    message: bytes
    streams: bool = False


def call(question: Question, image: bytes) -> Call:
    """The question as its own method, or as StreamGenerate where it asks for a stream."""
    fields = {name: value for name, value in question.fields.items() if name != "stream"}
    resolution = f"RESOLUTION_{fields.pop('resolution', 'unspecified').upper()}"
    if question.fields.get("stream"):
        options = {name: fields[name] for name in ("model", "max_tokens", "timeout_ms") if name in fields}
        message = pb.StreamGenerateRequest(image=image, prompt=question.prefix, resolution=resolution, **options)
        return Call("StreamGenerate", message.SerializeToString(), streams=True)
    if "box" in fields:
        fields["box"] = pb.Box(**json.loads(fields["box"]))
    method = question.task.title().replace("-", "")
    request = getattr(pb, f"{method}Request")(image=image, resolution=resolution, **fields)
    return Call(method, request.SerializeToString())


class GrpcServer:
    """``HOST:PORT``, with a key where one is needed."""

    def __init__(self, address: str, key: str | None = None, tls: grpc.ChannelCredentials | None = None) -> None:
        self._address = address
        self._tls = tls
        self._metadata = (("authorization", bearer(key)),) if key else ()
        self._channels: list[grpc.aio.Channel] = []
        self._lines = 0

    def connect(self) -> "_Line":
        """A place on a channel, which some share."""
        if self._lines % CALLS_A_CHANNEL == 0:
            secure, plain = grpc.aio.secure_channel, grpc.aio.insecure_channel
            self._channels.append(secure(self._address, self._tls, OPTIONS) if self._tls else plain(self._address, OPTIONS))
        self._lines += 1
        return _Line(self._channels[-1], self._metadata)

    def read(self, status: int, body: bytes) -> tuple[int, dict[str, Any]]:
        """The status, and some of the fields that REST would have told: ``model`` and ``usage``, or of an error ``detail``."""
        return status, json.loads(body) if body else {}

    async def close(self) -> None:
        """End all connections."""
        for channel in self._channels:
            await channel.close()
        self._channels.clear()
        self._lines = 0


class _Line:
    def __init__(self, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...]) -> None:
        self._channel = channel
        self._metadata = metadata

    async def ask(self, raw: Call, hear: Callable[[bytes], None] | None = None) -> tuple[int, bytes]:
        """See ``load_generator.Line``. The body is made of the few fields that ``read`` tells."""
        method = SERVICE + raw.method
        read: Callable[[bytes], Any] = getattr(pb, f"{raw.method}Response").FromString
        try:
            if raw.streams:
                streaming: Any = self._channel.unary_stream(method, response_deserializer=read)
                answer = await _last(streaming(raw.message, metadata=self._metadata), hear)
            else:
                calling: Any = self._channel.unary_unary(method, response_deserializer=read)
                answer = await calling(raw.message, metadata=self._metadata)
            told = {"model": answer.model, "usage": {"completion_tokens": answer.usage.completion_tokens}}
            return 200, json.dumps(told).encode()
        except grpc.aio.AioRpcError as error:
            status = STATUSES.get(error.code(), 500)
            # Without this name it is not the server that says so.
            answered = any(name == "x-request-id" for name, _ in error.trailing_metadata() or ())
            if status == 503 and not answered:
                raise ConnectionError(error.details()) from None
            return status, json.dumps({"detail": error.details() or error.code().name}).encode()

    def close(self) -> None:
        """A call that is left is cancelled already, and others may be on the channel."""


async def _last(stream: AsyncIterable[pb.StreamGenerateResponse], hear: Callable[[bytes], None] | None) -> pb.GenerateResponse:
    last = pb.StreamGenerateResponse()
    async for event in stream:
        last = event
        if hear:
            # All that is asked is when it came.
            hear(b"")
    return last.result
