"""Pictures that end their decoder, or hold it for ever, in a real server."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
from PIL import Image

from tests.end_to_end.conftest import Server
from tests.image_processes import image_workers
from tests.pictures import LEAKS, saved

PATIENCE = 60


@pytest.fixture
def apart() -> Iterator[Server]:
    """A server with two image workers and a limit of five seconds."""
    made = Server(environ={"PALISERVE_IMAGE_WORKERS": "2", "PALISERVE_IMAGE_SECONDS": "5"})
    yield made
    made.close()


def found(answer: httpx.Response) -> list[tuple[str, dict[str, float]]]:
    """Labels and boxes: all that the tokens say. A score's last digits are another matter in a batch of another size."""
    return [(each["label"], each["box"]) for each in answer.json()["detections"]]


def detect(server: Server, image: bytes) -> httpx.Response:
    return server.client.post("/v1/detect", files={"image": image}, data={"objects": "purple star"})


def until(condition: Callable[[], bool]) -> None:
    """Look until it holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def used(process: psutil.Process) -> float:
    """Seconds of processor time."""
    return float(process.cpu_times().user)


def refused(answer: httpx.Response) -> str:
    """What a caller whose picture cannot be decoded is told."""
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == "invalid_image"
    assert not LEAKS.search(answer.text)
    return str(answer.json()["detail"])


def test_threat_04_and_05_a_picture_costs_its_own_request_only(apart: Server, sample: bytes) -> None:
    expected = found(detect(apart, sample))
    assert expected
    # Pictures of their own, or they would be found in the vision cache.
    pictures = [sample + bytes(number) for number in range(1, 13)]
    large = saved(Image.new("LA", (8000, 8000)), "PNG")
    with ThreadPoolExecutor(8) as clients:
        workers = {each: used(each) for each in image_workers(apart.process.pid)}
        crashing = clients.submit(detect, apart, large)
        until(lambda: any(used(each) > before + 0.1 for each, before in workers.items()))
        bystanders = [clients.submit(detect, apart, each) for each in pictures[:6]]
        max(workers, key=lambda each: used(each) - workers[each]).send_signal(signal.SIGSEGV)
        assert "ends its decoder" in refused(crashing.result(PATIENCE))
        assert all(found(each.result(PATIENCE)) == expected for each in bystanders)

        for each in image_workers(apart.process.pid):
            each.suspend()
        asked = [clients.submit(detect, apart, each) for each in pictures[6:]]
        answers = sorted((each.result(PATIENCE) for each in asked), key=lambda each: each.status_code)
        assert all("not decoded within 5 s" in refused(each) for each in answers[-2:])
        assert all(found(each) == expected for each in answers[:-2])
    metrics = apart.client.get("/metrics").text
    assert 'paliserve_image_worker_restarts_total{reason="crashed"} 1.0' in metrics
    assert 'paliserve_image_worker_restarts_total{reason="too_slow"} 2.0' in metrics
    assert len(image_workers(apart.process.pid)) == 2
    processes = psutil.Process(apart.process.pid).children(recursive=True)
    assert apart.stop() == 0
    assert not psutil.wait_procs(processes, timeout=PATIENCE)[1]
