"""A server that is held in its warm-up until a client has asked about its health: tells what the client was told, each on a line."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

import service.demo
from service import wiring
from service.serving import serve
from service.settings import Settings
from service.transports.grpc.generated import paligemma_pb2 as pb
from service.transports.grpc.generated import paligemma_pb2_grpc
from tests.end_to_end.conftest import free_port

SAMPLE = Path(service.demo.__file__).parent / "samples" / "scene.png"


def main() -> None:
    """Run both."""
    entered, go_on = threading.Event(), threading.Event()
    wired: Any = wiring
    warm_up = wired.warm_up

    async def held(*arguments: Any) -> None:
        entered.set()
        await asyncio.to_thread(go_on.wait)
        await warm_up(*arguments)

    wired.warm_up = held
    settings = Settings(port=0, grpc_port=free_port(), workers=0)

    async def run() -> None:
        serving = asyncio.create_task(serve(settings))
        await asyncio.to_thread(ask, settings.grpc_port, entered, go_on)
        serving.cancel()

    asyncio.run(run())


def ask(port: int, entered: threading.Event, go_on: threading.Event) -> None:
    """The client."""
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    health: Any = health_pb2_grpc.HealthStub(channel)
    stub: Any = paligemma_pb2_grpc.PaliGemmaServiceStub(channel)  # type: ignore[no-untyped-call]
    request = pb.ReadRequest(image=SAMPLE.read_bytes())
    entered.wait()
    watch = health.Watch(health_pb2.HealthCheckRequest())
    print(health_pb2.HealthCheckResponse.ServingStatus.Name(next(watch).status))
    try:
        stub.Read(request)
    except grpc.RpcError as error:
        call: Any = error
        status: Any = rpc_status.from_call(call)
        print(call.code().name, "model_not_ready" if b"MODEL_NOT_READY" in status.SerializeToString() else status)
    go_on.set()
    print(health_pb2.HealthCheckResponse.ServingStatus.Name(next(watch).status))
    print(stub.Read(request).text_read)
    channel.close()


if __name__ == "__main__":
    main()
