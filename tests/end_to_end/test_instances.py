"""Instances of the real server: loaded at the start, on demand, by their operator; given back; and failing."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.end_to_end.conftest import CHECKPOINT, Server

KEY = "a secret of the operator's"
BEARER = {"authorization": f"Bearer {KEY}"}
SERVING, NOT_SERVING = 1, 2


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """Two precisions at the start, one on demand, and one on demand whose weights are not what they should be; and that one's folder."""
    folder = tmp_path_factory.mktemp("instances")
    broken = folder / "broken"
    shutil.copytree(CHECKPOINT, broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    rows = [("exact", CHECKPOINT, 'dtype = "float32"'), ("half", CHECKPOINT, 'dtype = "bfloat16"')]
    rows += [("later", CHECKPOINT, "preload = false\nresolution = 224"), ("broken", broken, "preload = false")]
    config = folder / "paliserve.toml"
    config.write_text("".join(f'[[instances]]\nname = "{name}"\nsource = "{source}"\n{more}\n' for name, source, more in rows))
    running = Server("--config", str(config), environ={"PALISERVE_ADMIN_KEY": KEY, "PALISERVE_WORKERS": "2"})
    yield running, broken
    running.close()


def states(server: Server) -> dict[str, str]:
    return {each["id"]: each["state"] for each in server.client.get("/v1/models").json()["data"]}


def counted(server: Server) -> set[tuple[str, str]]:
    """What the metric says of each instance."""
    lines = [line for line in server.client.get("/metrics").text.splitlines() if line.startswith("paliserve_instance_state{")]
    return {tuple(line.split('"')[1:4:2]) for line in lines if line.endswith(" 1.0")}  # type: ignore[misc]


def read(server: Server, sample: bytes, model: str, **more: str) -> Any:
    return server.client.post("/v1/read", files={"image": sample}, data={"model": model, **more})


def test_an_instance_is_loaded_when_it_is_asked_for_and_given_back(served: tuple[Server, Path], sample: bytes) -> None:
    server, _ = served
    assert states(server) == {"exact": "warm", "half": "warm", "later": "cold", "broken": "cold"}
    channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
    health: Any = health_pb2_grpc.HealthStub(channel)
    watch = health.Watch(health_pb2.HealthCheckRequest(service="later"))
    assert next(watch).status == NOT_SERVING
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: read(server, sample, "later").json(), range(8)))
    assert {(each["text_read"], each["model"]) for each in answers} == {("GIFT", "later")}
    # Eight who asked at once waited for one load.
    assert len([line for line in server.log if "later is loaded" in line]) == 1
    assert next(watch).status == SERVING
    assert ("later", "warm") in counted(server)
    told = server.client.post("/v1/models/later/unload", headers=BEARER)
    assert (told.status_code, told.json()["state"]) == (200, "cold")
    assert next(watch).status == NOT_SERVING
    assert ("later", "cold") in counted(server)
    told = server.client.post("/v1/models/later/load", headers=BEARER)
    assert (told.status_code, told.json()["state"]) == (200, "warm")
    assert read(server, sample, "later").json()["text_read"] == "GIFT"
    watch.cancel()
    channel.close()


def test_what_its_operator_unloaded_is_not_loaded_by_a_request(served: tuple[Server, Path], sample: bytes) -> None:
    server, _ = served
    assert server.client.post("/v1/models/half/unload", headers=BEARER).status_code == 200
    refused = read(server, sample, "half")
    assert (refused.status_code, refused.json()["code"]) == (503, "model_not_ready")
    assert "/v1/models/half/load" in refused.json()["detail"]
    # The others answer meanwhile.
    assert read(server, sample, "exact").json()["text_read"] == "GIFT"
    assert server.client.post("/v1/models/half/load", headers=BEARER).json()["state"] == "warm"
    assert read(server, sample, "half").json()["text_read"] == "GIFT"


def test_a_load_that_fails_says_so_and_is_tried_again_later(served: tuple[Server, Path], sample: bytes) -> None:
    server, broken = served
    refused = read(server, sample, "broken")
    assert (refused.status_code, refused.json()["code"]) == (503, "model_not_ready")
    assert int(refused.headers["retry-after"]) >= 1
    assert str(broken) not in refused.text
    assert states(server)["broken"] == "failed"
    assert "next attempt" in read(server, sample, "broken").json()["detail"]
    assert any("broken cannot be loaded" in line and "error" in line for line in server.log)
    shutil.copy(CHECKPOINT / "model.safetensors", broken / "model.safetensors")
    # Its operator need not wait for the next attempt.
    assert server.client.post("/v1/models/broken/load", headers=BEARER).json()["state"] == "warm"
    assert read(server, sample, "broken").json()["text_read"] == "GIFT"


def test_who_does_not_wait_so_long_is_told(served: tuple[Server, Path], sample: bytes) -> None:
    server, _ = served
    server.client.post("/v1/models/later/unload", headers=BEARER)
    late = read(server, sample, "later", timeout_ms="1")
    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
    assert read(server, sample, "later").json()["text_read"] == "GIFT"


def test_a_resolution_that_is_not_served_is_refused_with_what_is(served: tuple[Server, Path], sample: bytes) -> None:
    refused = served[0].client.post("/v1/read", files={"image": sample}, data={"resolution": 896})
    assert (refused.status_code, refused.json()["code"]) == (404, "model_not_found")
    assert "there is 224" in refused.json()["detail"]


def test_nobody_else_loads_or_unloads(served: tuple[Server, Path]) -> None:
    server, _ = served
    assert server.client.post("/v1/models/exact/unload").status_code == 401
    assert server.client.post("/v1/models/exact/unload", headers={"authorization": "Bearer another"}).status_code == 401
    assert states(server)["exact"] == "warm"
