"""gRPC of the real server."""

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.transports.grpc.generated import paligemma_pb2 as pb
from service.transports.grpc.generated import paligemma_pb2_grpc
from tests.end_to_end.conftest import Server

SERVING, NOT_SERVING = 1, 2


class Client:
    """A channel to a server, and what speaks over it."""

    def __init__(self, server: Server) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=(("grpc.use_local_subchannel_pool", 1),))
        self.stub: Any = paligemma_pb2_grpc.PaliGemmaServiceStub(self.channel)  # type: ignore[no-untyped-call]
        self.health: Any = health_pb2_grpc.HealthStub(self.channel)


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    made = Client(server)
    yield made
    made.channel.close()


HELD = ("paliserve_requests_running", "paliserve_requests_waiting")
"""Read together: between two readings a request may go from the one to the other."""


def metric(server: Server, name: str | tuple[str, ...]) -> float:
    found = [line for line in server.client.get("/metrics").text.splitlines() if line.startswith(name)]
    return sum(float(line.split()[-1]) for line in found)


def long(image: bytes) -> dict[str, Any]:
    """What the endless model writes a thousand tokens about."""
    return {"image": image, "prompt": "caption en", "max_tokens": 1024}


def test_models(client: Client) -> None:
    models = client.stub.ListModels(pb.ListModelsRequest()).models
    assert [(each.id, each.resolution, each.state) for each in models] == [
        (f"shapes-{side}", side, pb.MODEL_STATE_WARM) for side in (224, 448, 896)
    ]
    assert list(models[0].adapters) == ["part-codes"]


def test_a_client_that_goes_away_frees_its_slot(endless: Server, sample: bytes) -> None:
    stub = Client(endless).stub
    short = pb.BatchRequest(id="short", read=pb.ReadRequest(image=sample, max_tokens=1))
    calls: list[Callable[[], Any]] = [
        lambda: stub.StreamGenerate(pb.StreamGenerateRequest(**long(sample))),
        lambda: stub.Batch(iter([pb.BatchRequest(generate=pb.GenerateRequest(**long(sample))), short])),
    ]
    for call in calls:
        running = call()
        next(running)
        # The long one runs, or waits beside the short one that was answered.
        assert metric(endless, HELD) == 1
        running.cancel()
        endless.wait_for("CANCELLED cancelled")
        # The slot is free before the next one is answered.
        stub.Read(pb.ReadRequest(image=sample, max_tokens=1))
        assert metric(endless, HELD) == 0


@pytest.mark.parametrize("own", [True, False])
def test_a_deadline_ends_the_work(endless: Server, sample: bytes, own: bool) -> None:
    stub = Client(endless).stub
    request = pb.GenerateRequest(**long(sample), timeout_ms=200 if own else None)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Generate(request, timeout=None if own else 0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    endless.wait_for("deadline_exceeded|cancelled")
    stub.Read(pb.ReadRequest(image=sample, max_tokens=1))
    assert metric(endless, "paliserve_requests_running") == 0


def test_a_picture_larger_than_four_megabytes_is_taken(client: Client, sample: bytes) -> None:
    # What stands behind a PNG's end is no part of it.
    assert client.stub.Read(pb.ReadRequest(image=sample + bytes(8_000_000))).text_read == "GIFT"
    with pytest.raises(grpc.RpcError) as caught:
        client.stub.Read(pb.ReadRequest(image=sample + bytes(21_000_000)))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "20000000" in str(caught.value.details())


def test_a_batch_encodes_its_picture_once(endless: Server, sample: bytes) -> None:
    encoded = metric(endless, 'paliserve_batch_size_sum{model="endless",phase="vision"}')
    requests = [pb.BatchRequest(id="0", caption=pb.CaptionRequest(image=sample, max_tokens=9))]
    requests += [pb.BatchRequest(id=str(index), detect=pb.DetectRequest(objects=["sign"], max_tokens=9)) for index in range(1, 8)]
    answers = list(Client(endless).stub.Batch(iter(requests)))
    assert sorted(answer.id for answer in answers) == [str(index) for index in range(8)]
    assert not [answer for answer in answers if answer.HasField("error")]
    assert metric(endless, 'paliserve_batch_size_sum{model="endless",phase="vision"}') == encoded + 1


def test_health_follows_the_server_to_its_end(sample: bytes) -> None:
    server = Server()
    try:
        client = Client(server)
        watches = [client.health.Watch(health_pb2.HealthCheckRequest(service=name)) for name in ("", "shapes-224")]
        assert [next(each).status for each in watches] == [SERVING, SERVING]
        begun = threading.Event()

        def follow() -> list[str]:
            events = []
            for event in client.stub.StreamGenerate(pb.StreamGenerateRequest(**long(sample))):
                events.append(event.WhichOneof("event"))
                begun.set()
            return events

        with ThreadPoolExecutor(1) as threads:
            stream = threads.submit(follow)
            begun.wait()
            server.process.send_signal(signal.SIGTERM)
            assert [next(each).status for each in watches] == [NOT_SERVING, NOT_SERVING]
            # What was accepted is answered; the watching calls end, and keep nobody waiting.
            assert stream.result()[-1] == "result"
            assert [list(each) for each in watches] == [[], []]
        assert server.process.wait(timeout=60) == 0
    finally:
        server.close()


def test_health_while_the_models_are_warmed_up() -> None:
    """Probes come from the start: first nobody listens, then nothing is taken yet, then all is well; and never anything else."""
    command = [sys.executable, "-m", "tests.end_to_end.slow_start"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["NOT_SERVING", "UNAVAILABLE", "model_not_ready", "SERVING", "GIFT"]


def test_buf_lists_the_services(server: Server) -> None:
    buf = shutil.which("buf", path=str(Path(sys.executable).parent)) or "buf"
    command = [buf, "curl", "--protocol", "grpc", "--http2-prior-knowledge", "--list-services", f"http://127.0.0.1:{server.grpc_port}"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert {"paligemma.v1.PaliGemmaService", "grpc.health.v1.Health"} <= set(listed)


def test_grpc_can_be_off(sample: bytes) -> None:
    server = Server("--grpc-port", "0")
    try:
        assert " and gRPC " not in next(line for line in server.log if "serving" in line)
        assert server.client.post("/v1/read", files={"image": sample}).json()["text_read"] == "GIFT"
    finally:
        server.close()
