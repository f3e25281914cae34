"""Faults in a real server: each request ends with its answer or an error, and what is not hit answers as if nothing had happened."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from service.transports.grpc.generated import paligemma_pb2 as pb
from service.transports.grpc.generated import paligemma_pb2_grpc
from tests.end_to_end.conftest import CHECKPOINT, Server, until

CLIENTS = 8
ONE = f'[[instances]]\nname = "one"\nsource = "{CHECKPOINT}"\n'
WORDS = "detect sign ; star ; square"


class Breakable:
    """A server in one process, and what its model does wrong."""

    def __init__(self, folder: Path) -> None:
        self._fault = folder / "fault"
        config = folder / "paliserve.toml"
        config.write_text("workers = 0\nstep_seconds = 1\n" + ONE)
        self.server = Server("--config", str(config), environ={"FAULT": str(self._fault)}, program="tests.end_to_end.faulty")

    def breaks(self, how: str) -> None:
        """From now on. Whole at once: it may be read in the middle."""
        new = self._fault.with_suffix(".new")
        new.write_text(how)
        new.rename(self._fault)

    def mends(self) -> None:
        self._fault.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Breakable]:
    made = Breakable(tmp_path_factory.mktemp("breakable"))
    yield made
    made.mends()
    made.server.close()


@pytest.fixture
def broken(breakable: Breakable) -> Iterator[Breakable]:
    """Mended in the end."""
    yield breakable
    breakable.mends()


def generated(url: str, image: bytes, prompt: str = WORDS) -> httpx.Response:
    return httpx.post(f"{url}/v1/generate", files={"image": image}, data={"prompt": prompt}, timeout=60)


def code(response: httpx.Response) -> tuple[int, str]:
    """The status, and the code of the problem."""
    return response.status_code, response.json()["code"]


@pytest.mark.parametrize(
    "fault", ["encode raises", "prefill raises", "decode raises", "encode memory", "decode memory", "prefill nan", "decode nan"]
)
def test_threat_47_and_51_what_fails_in_the_model_fails_the_request_and_not_the_process(
    broken: Breakable, sample: bytes, fault: str
) -> None:
    url = broken.server.url
    # Behind the file's end stands what makes it another picture to the vision cache.
    image = sample + fault.encode()
    right = generated(url, sample).json()["text"]
    broken.breaks(fault)
    failed = generated(url, image)
    assert code(failed) == (500, "internal")
    assert "CUDA" not in failed.text
    broken.mends()
    assert generated(url, image).json()["text"] == right
    assert broken.server.client.get("/livez").status_code == 200


def streamed(url: str, image: bytes) -> str:
    data = {"prompt": WORDS, "stream": "true"}
    return httpx.post(f"{url}/v1/generate", files={"image": image}, data=data, timeout=60).text


def called(server: Server, image: bytes) -> tuple[grpc.StatusCode, str]:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub: Any = paligemma_pb2_grpc.PaliGemmaServiceStub(channel)  # type: ignore[no-untyped-call]
        try:
            stub.Generate(pb.GenerateRequest(image=image, prompt=WORDS), timeout=60)
        except grpc.RpcError as error:
            failed: Any = error
            return failed.code(), failed.details()
    return grpc.StatusCode.OK, ""


def test_threat_47_a_hanging_model_is_seen_and_nobody_waits_for_it(broken: Breakable, sample: bytes) -> None:
    server = broken.server
    right = generated(server.url, sample).json()["text"]
    broken.breaks("decode hangs")
    with ThreadPoolExecutor(3) as clients:
        whole = clients.submit(generated, server.url, sample)
        stream = clients.submit(streamed, server.url, sample)
        call = clients.submit(called, server, sample)
        assert code(whole.result()) == (503, "model_not_ready")
        assert "model_not_ready" in stream.result()
        assert call.result()[0] is grpc.StatusCode.UNAVAILABLE
    assert server.client.get("/livez").status_code == 503
    assert server.client.get("/readyz").status_code == 503
    refused = generated(server.url, sample)
    assert code(refused) == (503, "model_not_ready")
    assert float(refused.headers["retry-after"]) >= 1
    server.check_books()
    broken.mends()
    until(lambda: server.client.get("/livez").status_code == 200 == server.client.get("/readyz").status_code, "it has not come back")
    assert generated(server.url, sample).json()["text"] == right


def parent_of(number: int) -> int:
    """0 where it has ended."""
    try:
        return int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def workers_of(server: Server) -> set[int]:
    """The processes of the models: those that multiprocessing's fork server has started, whose parent is the server."""
    numbers = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    children = {number for number in numbers if parent_of(parent_of(number)) == server.process.pid}
    return {number for number in children if b"multiprocessing.forkserver" in started_by(number)}


def started_by(number: int) -> bytes:
    """Its command; nothing where it has ended."""
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@pytest.fixture(params=[60])
def paired(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server with two worker processes; how long a step may take."""
    config = tmp_path / "paliserve.toml"
    config.write_text(f"workers = 2\nstep_seconds = {request.param}\n{ONE}")
    running = Server("--config", str(config))
    yield running
    running.close()


def at_once(server: Server, image: bytes, meanwhile: Callable[[], object]) -> list[httpx.Response]:
    """Each client's answer about a picture of its own; ``meanwhile`` happens when all have been asked."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        asked: list[Future[httpx.Response]] = [clients.submit(generated, server.url, image + bytes([index])) for index in range(CLIENTS)]
        meanwhile()
        return [each.result() for each in asked]


@pytest.mark.parametrize("paired", [3], indirect=True)
def test_threat_47_a_worker_that_hangs_is_replaced_and_the_other_one_answers(paired: Server, sample: bytes) -> None:
    right = generated(paired.url, sample).json()["text"]
    stuck, other = sorted(workers_of(paired))
    os.kill(stuck, signal.SIGSTOP)
    answers = at_once(paired, sample, lambda: until(lambda: paired.client.get("/livez").status_code == 503, "it is not seen to hang"))
    until(lambda: paired.client.get("/livez").status_code == 200, "it was not replaced")
    outcomes = [answer.json()["text"] if answer.status_code == 200 else code(answer) for answer in answers]
    assert outcomes.count(right) == outcomes.count((503, "model_not_ready")) == CLIENTS // 2
    assert stuck not in workers_of(paired)
    assert other in workers_of(paired)
    assert {each.json()["text"] for each in at_once(paired, sample, lambda: None)} == {right}
    assert paired.series("paliserve_worker_restarts_total") == 1


def test_threat_47_a_killed_worker_costs_nobody_but_those_it_had_begun(paired: Server, sample: bytes) -> None:
    right = generated(paired.url, sample).json()["text"]
    killed = min(workers_of(paired))
    os.kill(killed, signal.SIGSTOP)

    def kill() -> None:
        until(lambda: paired.series("paliserve_generations_accepted_total") >= warm + CLIENTS, "not all were accepted")
        os.kill(killed, signal.SIGKILL)

    warm = paired.series("paliserve_generations_accepted_total")
    # It stood still before it was asked: all that it was given it had not begun.
    answers = at_once(paired, sample, kill)
    assert [each.json().get("text") for each in answers] == [right] * CLIENTS
    assert paired.client.get("/livez").status_code == 200
    until(lambda: len(workers_of(paired) - {killed}) == 2, "it was not replaced")
    assert {each.json()["text"] for each in at_once(paired, sample, lambda: None)} == {right}


def test_threat_47_while_all_workers_are_gone_requests_are_refused_at_once(paired: Server, sample: bytes) -> None:
    right = generated(paired.url, sample).json()["text"]
    for number in workers_of(paired):
        os.kill(number, signal.SIGKILL)
    until(lambda: code(generated(paired.url, sample)) == (503, "model_not_ready"), "nobody is refused")
    until(lambda: paired.client.get("/readyz").status_code == 200, "they were not replaced")
    assert generated(paired.url, sample).json()["text"] == right
