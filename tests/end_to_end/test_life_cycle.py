"""Start and stop of the real process."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from service.machine import memory_bytes
from tests.end_to_end.conftest import CHECKPOINT, Server

REQUESTS = 60


@pytest.fixture
def own() -> Iterator[Server]:
    """A server that the test may stop."""
    running = Server()
    yield running
    running.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_was_accepted_and_ends_with_status_0(own: Server, sample: bytes, number: signal.Signals) -> None:
    accepted = threading.Event()

    def ask(_: int) -> int:
        try:
            return httpx.post(
                f"{own.url}/v1/segment", files={"image": sample}, data={"objects": ["purple star", "green square"]}
            ).status_code
        except httpx.TransportError:
            return 0  # came when the door was closed, or closing: the server never saw the request
        finally:
            accepted.set()

    with ThreadPoolExecutor(32) as clients:
        asking = [clients.submit(ask, index) for index in range(REQUESTS)]
        accepted.wait()
        assert own.stop(number) == 0
        outcomes = [each.result() for each in asking]
    assert set(outcomes) <= {200, 503, 0}
    # Every request that the server saw has its answer at the client: none accepted was lost.
    seen = [line for line in own.log if "POST /v1/segment" in line]
    assert sum(" 200 ok " in line for line in seen) == outcomes.count(200) > 0
    assert sum(" 503 draining " in line for line in seen) == outcomes.count(503)
    assert len(seen) == len(outcomes) - outcomes.count(0)
    assert "stopped" in own.log[-1]


def start(*arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=os.environ | (environ or {}))


def refused(process: subprocess.CompletedProcess[str], *words: str) -> None:
    """One clear line, and a status that is not 0."""
    assert process.returncode == 1, process.stderr
    lines = process.stderr.strip().splitlines()
    assert len(lines) == 1, process.stderr
    assert lines[0].startswith("paliserve: ")
    for word in words:
        assert word in lines[0], lines[0]


def test_a_port_in_use_is_told_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(start("serve", "--port", str(port)), str(port), "--port")
        refused(start("serve", "--port", "0", "--grpc-port", str(port)), str(port), "--grpc-port")


def test_a_missing_model_is_told_in_one_line(tmp_path: Path) -> None:
    config = tmp_path / "paliserve.toml"
    config.write_text('[[instances]]\nname = "mine"\nsource = "/no/such/folder"\n')
    refused(start("serve", "--port", "0", "--grpc-port", "0", "--config", str(config)), "/no/such/folder")


def test_a_bad_setting_is_told_in_one_line(tmp_path: Path) -> None:
    config = tmp_path / "paliserve.toml"
    config.write_text("prot = 8000\n")
    refused(start("serve", "--config", str(config)), "prot", "port")
    refused(start("serve", environ={"PALISERVE_PROT": "1"}), "PALISERVE_PROT", "port")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_queue =\n", ("not TOML",)),
        ('max_queue = "many"\n', (":1", "max_queue", "integer")),
        ("workers = -1\n", (":1", "workers")),
        ("[[instances]]\nname = 'mine'\nsource = 'here'\nslot = 3\n", (":4", "slot", "slots")),
    ],
    ids=["syntax", "type", "range", "key"],
)
def test_a_bad_file_of_settings_is_told_in_one_line(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    config = tmp_path / "paliserve.toml"
    config.write_text(text)
    refused(start("serve", "--config", str(config)), "paliserve.toml", *words)


def test_settings_that_cannot_be_read_are_told_in_one_line(tmp_path: Path) -> None:
    refused(start("serve", "--config", str(tmp_path / "none.toml")), "none.toml", "No such file")
    refused(start("serve", "--config", str(tmp_path)), str(tmp_path), "directory")


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def with_weights_cut_off(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])


def with_a_file_that_leads_nowhere(folder: Path) -> None:
    """As in the hub's cache, when its blobs were cleared away."""
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(folder / "blob")


def without_a_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize("damage", [without_weights, with_weights_cut_off, with_a_file_that_leads_nowhere, without_a_tokenizer])
def test_a_model_that_cannot_be_read_is_told_in_one_line(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    folder, config = tmp_path / "model", tmp_path / "paliserve.toml"
    shutil.copytree(CHECKPOINT, folder)
    damage(folder)
    config.write_text(f'workers = 0\n[[instances]]\nname = "mine"\nsource = "{folder}"\n')
    refused(start("serve", "--port", "0", "--grpc-port", "0", "--config", str(config)), str(folder))


def with_rows(file: Path, rows: int, wanted: int) -> None:
    """Give the tensors that have so many ``rows`` others, of nothing but zeros, which take no room on the disk."""
    with file.open("rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    size = 0
    for tensor in (each for name, each in header.items() if name != "__metadata__"):
        begin, end = tensor["data_offsets"]
        length = end - begin
        if tensor["shape"][0] == rows:
            tensor["shape"][0], length = wanted, length // rows * wanted
        tensor["data_offsets"] = [size, size + length]
        size += length
    raw = json.dumps(header).encode()
    file.write_bytes(len(raw).to_bytes(8, "little") + raw)
    os.truncate(file, 8 + len(raw) + size)


def test_a_model_too_large_for_the_memory_is_told_in_one_line(tmp_path: Path) -> None:
    folder, config = tmp_path / "model", tmp_path / "paliserve.toml"
    shutil.copytree(CHECKPOINT, folder)
    sizes = json.loads((folder / "config.json").read_text())
    rows = sizes["text_config"]["vocab_size"]
    # The file could be mapped, and in float32 has twice the bytes.
    wanted = int(0.6 * memory_bytes() / (2 * sizes["text_config"]["hidden_size"]))
    sizes["text_config"]["vocab_size"] = wanted
    (folder / "config.json").write_text(json.dumps(sizes))
    with_rows(folder / "model.safetensors", rows, wanted)
    config.write_text(f'workers = 0\n[[instances]]\nname = "mine"\nsource = "{folder}"\ndtype = "float32"\n')
    refused(start("serve", "--port", "0", "--grpc-port", "0", "--config", str(config)), "mine takes", "GB are free", "slots")


def test_print_config_shows_what_results(tmp_path: Path) -> None:
    config = tmp_path / "paliserve.toml"
    config.write_text("port = 1234\nmax_queue = 7\n")
    process = start("serve", "--config", str(config), "--print-config", "--host", "0.0.0.0", environ={"PALISERVE_PORT": "4321"})
    assert process.returncode == 0
    assert 'host = "0.0.0.0"' in process.stdout
    assert "port = 4321" in process.stdout
    assert "max_queue = 7" in process.stdout


def test_two_instances_are_served_side_by_side(tmp_path: Path, sample: bytes) -> None:
    source = Path(__file__).parents[2] / "service" / "demo" / "checkpoints" / "shapes-224"
    config = tmp_path / "paliserve.toml"
    config.write_text("".join(f'[[instances]]\nname = "{name}"\nsource = "{source}"\ndtype = "{dtype}"\n' for name, dtype in INSTANCES))
    running = Server("--config", str(config))
    try:
        listed = running.client.get("/v1/models").json()["data"]
        assert [(each["id"], each["dtype"], each["state"]) for each in listed] == [(name, dtype, "warm") for name, dtype in INSTANCES]
        for name, _ in INSTANCES:
            answer = running.client.post("/v1/caption", files={"image": sample}, data={"model": name}).json()
            assert answer["model"] == name
    finally:
        running.close()


INSTANCES = (("exact", "float32"), ("half", "bfloat16"))
