"""Pictures that end their decoder, or hold it for ever, in a real server."""

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import psutil
import pytest

from tests.end_to_end.conftest import Server
from tests.image_processes import image_workers
from tests.pictures import LEAKS

PATIENCE = 60


@pytest.fixture
def apart() -> Iterator[Server]:
    """A server with two image workers and a limit of a second."""
    made = Server(environ={"PALISERVE_IMAGE_WORKERS": "2", "PALISERVE_IMAGE_SECONDS": "1"})
    yield made
    made.close()


def detect(server: Server, image: bytes) -> httpx.Response:
    return server.client.post("/v1/detect", files={"image": image}, data={"objects": "purple star"})


def stop(process: psutil.Process) -> None:
    process.suspend()
    deadline = time.monotonic() + PATIENCE
    while process.status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def test_threats_04_and_05_a_picture_costs_its_own_request_only(apart: Server, sample: bytes) -> None:
    expected = detect(apart, sample).json()["detections"]
    with ThreadPoolExecutor(8) as clients:
        crashing, stuck = image_workers(apart.process.pid)
        stop(crashing)
        stop(stuck)
        # Pictures of their own, or they would be found in the vision cache.
        asked: list[Future[httpx.Response]] = [clients.submit(detect, apart, sample + bytes(number)) for number in range(1, 13)]
        crashing.send_signal(signal.SIGSEGV)
        crashing.resume()
        answers = [each.result(PATIENCE) for each in asked]
    refused = [each for each in answers if each.status_code != 200]
    assert [each.status_code for each in refused] == [422, 422]
    assert {each.json()["code"] for each in refused} == {"invalid_image"}
    assert not any(LEAKS.search(each.text) for each in refused)
    assert all(each.json()["detections"] == expected for each in answers if each.status_code == 200)
    metrics = apart.client.get("/metrics").text
    assert 'paliserve_image_worker_restarts_total{reason="too_slow"} 1.0' in metrics
    assert 'paliserve_image_worker_restarts_total{reason="crashed"} 1.0' in metrics
    assert len(image_workers(apart.process.pid)) == 2
    assert detect(apart, sample).json()["detections"] == expected
    assert apart.stop() == 0


def test_no_image_worker_outlives_a_server_that_is_killed(apart: Server) -> None:
    processes = psutil.Process(apart.process.pid).children(recursive=True)
    stop(image_workers(apart.process.pid)[0])
    apart.process.kill()
    assert not psutil.wait_procs(processes, timeout=PATIENCE)[1]
