"""The requests that the playground writes for others: copied, run, and compared with the answer on the page."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from service.transports.grpc.generated import paligemma_pb2
from tests.end_to_end.conftest import Server, needed
from tests.end_to_end.visitor import SAMPLES, Visitor

GRPCURL = """#!{python}
import json, os, subprocess, sys
*flags, host, method = sys.argv[1:]
message = sys.stdin.read()
open("message.json", "w").write(message)
assert flags[flags.index("-d") + 1] == "@" and "-plaintext" in flags
headers = [each for at, flag in enumerate(flags) if flag == "-H" for each in ("-H", flags[at + 1], "--reflect-header", flags[at + 1])]
buf = [{buf!r}, "curl", "--protocol", "grpc", "--http2-prior-knowledge", *headers, "-d", message, f"http://{{host}}/{{method}}"]
sys.exit(subprocess.run(buf).returncode)
"""
"""As grpcurl is called; buf's does the same."""

OWN = {
    "caption": "caption",
    "answer": "answer",
    "detect": "detections",
    "segment": "segments",
    "read": "text_read",
    "caption-region": "caption",
    "generate": "text",
}
AWKWARD = 'what\'s the "color" of the star, $HOME `id` \\ @x %s é?'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where requests are run, with something called grpcurl on its path."""
    program = tmp_path / "grpcurl"
    program.write_text(GRPCURL.format(python=sys.executable, buf=str(Path(sys.executable).parent / "buf")))
    program.chmod(0o755)
    return tmp_path


def run(command: list[str], folder: Path, **environ: str) -> str:
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=os.environ | {"PATH": path} | environ, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def told(kind: str, text: str, folder: Path, **environ: str) -> Any:
    """What a request answers."""
    if kind == "python":
        return ast.literal_eval(run([sys.executable, "-c", text], folder, **environ))
    if kind == "fetch":
        return json.loads(
            run([needed("node"), "--input-type=module", "-e", text.replace("response.json()", "response.text()")], folder, **environ)
        )
    return json.loads(run(["bash", "-euo", "pipefail", "-c", text], folder, **environ))


def agree(kind: str, task: str, answer: dict[str, Any], other: dict[str, Any]) -> None:
    if kind == "grpcurl":
        assert (other["prompt"], other["text"]) == (answer["prompt"], answer["text"])
    else:
        assert other[OWN[task]] == answer[OWN[task]]


@pytest.mark.parametrize("task", OWN)
def test_each_request_works_as_it_is(visitor: Visitor, folder: Path, task: str) -> None:
    answer = visitor.sample().choose(task).ask()
    for kind in ("curl", "fetch", "python", "grpcurl"):
        agree(kind, task, answer, told(kind, visitor.request(kind), folder))


def test_what_is_typed_stays_what_it_is(visitor: Visitor, folder: Path) -> None:
    visitor.sample().choose("answer")
    visitor.page.fill("#question", AWKWARD)
    visitor.page.select_option("#language", "de")
    visitor.page.select_option("#model", "resolution:auto")
    visitor.page.click(".options summary")
    visitor.page.fill("#max_tokens", "3")
    visitor.page.fill("#seed", "7")
    visitor.page.fill("#temperature", "0.5")
    visitor.page.check("#strict")
    answer = visitor.ask()
    assert answer["prompt"] == f"answer de {AWKWARD}"
    for kind in ("curl", "fetch", "python", "grpcurl"):
        other = told(kind, visitor.request(kind), folder)
        # Over gRPC, empty text is left out.
        assert (other["prompt"], other.get("text", "")) == (answer["prompt"], answer["text"]), kind


@pytest.mark.parametrize("choice", ["model:shapes-448", "resolution:224", "resolution:auto"])
def test_a_message_is_the_protocols(visitor: Visitor, folder: Path, choice: str) -> None:
    visitor.sample().choose("caption")
    visitor.page.select_option("#model", choice)
    visitor.page.select_option("#style", "short")
    told("grpcurl", visitor.request("grpcurl"), folder)
    message = json_format.Parse((folder / "message.json").read_text(), paligemma_pb2.CaptionRequest())
    assert message.image == (SAMPLES / "scene.png").read_bytes()
    assert message.style == paligemma_pb2.CAPTION_STYLE_SHORT
    kind, _, value = choice.partition(":")
    assert (message.model if kind == "model" else paligemma_pb2.Resolution.Name(message.resolution).rpartition("_")[2].lower()) == value


def test_a_file_of_ones_own_is_taken_from_the_folder(visitor: Visitor, folder: Path, sample: bytes) -> None:
    name = "my picture é.png"
    (folder / name).write_bytes(sample)
    visitor.page.set_input_files("#file", folder / name)
    visitor.page.wait_for_selector("#canvas:visible")
    answer = visitor.choose("read").ask()
    for kind in ("curl", "python", "grpcurl"):
        agree(kind, "read", answer, told(kind, visitor.request(kind), folder))
    assert "files[0]" in visitor.request("fetch")


def test_a_key_comes_from_the_environment(visit: Callable[..., Visitor], folder: Path) -> None:
    key = "the-key-of-this-test"
    running = Server(environ={"PALISERVE_ADMIN_KEY": key, "PALISERVE_ANONYMOUS": "false"})
    running.client.headers["authorization"] = f"Bearer {key}"
    try:
        visitor = visit(running.url)
        visitor.expected = ("401",)
        visitor.page.goto(running.url)
        visitor.page.fill("#key", key)
        visitor.page.press("#key", "Enter")
        answer = visitor.sample().choose("read").ask()
        for kind in ("curl", "python", "grpcurl"):
            agree(kind, "read", answer, told(kind, visitor.request(kind), folder, PALISERVE_KEY=key))
    finally:
        running.close()


def test_a_request_is_copied(visitor: Visitor) -> None:
    visitor.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visitor.sample()
    text = visitor.request("python")
    visitor.page.click("[data-copies=request-text]")
    visitor.page.wait_for_selector("text=Copied")
    assert visitor.page.evaluate("navigator.clipboard.readText()") == text


def test_without_grpc_there_is_no_grpcurl(visit: Callable[..., Visitor]) -> None:
    running = Server("--grpc-port", "0")
    try:
        visitor = visit(running.url).open().sample()
        assert visitor.request("grpcurl") == "# gRPC is off on this server."
    finally:
        running.books_balance = False
        running.close()
