"""Many clients of one server: those who are killed, and those who must not get one another's answers."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import grpc
import pytest
from PIL import Image, ImageDraw

from service.transports.grpc.generated import paligemma_pb2 as pb
from service.transports.grpc.generated import paligemma_pb2_grpc
from tests.end_to_end.conftest import Server, until

LEAVING = "tests.end_to_end.leaving_client"


@pytest.mark.parametrize("way", ["whole", "events", "grpc"])
def test_threat_50_a_client_that_is_killed_has_no_work_done_for_it(endless: Server, tmp_path: Path, sample: bytes, way: str) -> None:
    """The answer would have been written to its end, had nobody noticed: then it would count as answered."""
    picture = tmp_path / "picture.png"
    picture.write_bytes(sample)
    before = [endless.series("paliserve_generations_ended_total", outcome=each) for each in ("cancelled", "answered")]
    command = [sys.executable, "-m", LEAVING, way, endless.url, str(endless.grpc_port), str(picture)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        if way == "whole":
            until(lambda: endless.series("paliserve_requests_running"), "it does not run")
        elif client.stdout is not None:
            assert client.stdout.readline() == "written\n"
        client.kill()
    until(lambda: not endless.series("paliserve_requests_running"), "its slot is still held")
    ended = [endless.series("paliserve_generations_ended_total", outcome=each) for each in ("cancelled", "answered")]
    assert ended == [before[0] + 1, before[1]]


COLOURS = {"red": "#e03030", "green": "#30a030", "blue": "#3050e0", "yellow": "#e8c820", "purple": "#8030b0"}
PROMPTS = ("caption en", "detect circle ; square ; star", "segment circle ; square", "answer en what color is the circle?", "ocr")


def canary(number: int) -> bytes:
    """A picture unlike all others: two shapes, of a place, a size and a colour that its number says."""
    image = Image.new("RGB", (320, 240), "#f4f0e8")
    draw = ImageDraw.Draw(image)
    colours = list(COLOURS.values())
    x, y, side = 10 + 13 * (number % 12), 10 + 17 * (number % 7), 40 + 5 * (number % 9)
    draw.ellipse((x, y, x + side, y + side), fill=colours[number % 5])
    draw.rectangle((200 - x // 2, 130, 200 - x // 2 + side, 130 + side), fill=colours[number // 5 % 5])
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def generated(server: Server, image: bytes, prompt: str) -> str:
    response = server.client.post("/v1/generate", files={"image": image}, data={"prompt": prompt, "model": "shapes-224"})
    text: str = response.raise_for_status().json()["text"]
    return text


def called(stub: Any, image: bytes, prompt: str) -> str:
    text: str = stub.Generate(pb.GenerateRequest(image=image, prompt=prompt, model="shapes-224"), timeout=60).text
    return text


def test_threat_52_everyone_gets_the_answer_about_their_own_picture(server: Server) -> None:
    """Alone first, one by one; then all at once, by both transports, in another order, so that other rows stand beside each."""
    asked = [(canary(number), PROMPTS[number % len(PROMPTS)]) for number in range(60)]
    alone = [generated(server, image, prompt) for image, prompt in asked]
    # A picture and a prompt that were taken for others would show.
    assert len(set(alone)) > len(asked) // 2
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel, ThreadPoolExecutor(24) as clients:
        stub: Any = paligemma_pb2_grpc.PaliGemmaServiceStub(channel)  # type: ignore[no-untyped-call]
        rest = [clients.submit(generated, server, image, prompt) for image, prompt in reversed(asked)]
        # Other bytes, so that they are not found in the vision cache, and the same picture.
        grpc_calls = [clients.submit(called, stub, image + b"again", prompt) for image, prompt in asked]
        assert [each.result() for each in reversed(rest)] == alone
        assert [each.result() for each in grpc_calls] == alone
