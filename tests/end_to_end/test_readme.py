"""README's examples, as they stand there: each answers what stands below it."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from tests.end_to_end.conftest import QUIET_BROWSER, Server, needed

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CLIENTS = README.partition("\n## Clients\n")[2].partition("\n## ")[0]
EXAMPLES = re.findall(r"```sh\n(curl .*?)```\s*```json\n(.*?)```", README.replace(CLIENTS, ""), re.DOTALL)
SECTIONS = {part.partition("\n")[0]: re.findall(r"```(\w+)\n(.*?)```", part, re.DOTALL) for part in CLIENTS.split("\n### ")[1:]}
"""By heading, the blocks: language and text. They are run in order, and a block of text or JSON is what the one before it prints."""

RUN = {"sh": ["bash", "-euc"], "python": [sys.executable, "-c"], "js": ["node", "--input-type=module", "-e"]}
PAGE = "A page in a browser"
CHANGING = {"id", "timings_ms"}


def agree(shown: Any, told: Any, path: str = "") -> None:
    """What is shown is part of what is told; numbers may differ a little between processors."""
    if isinstance(shown, dict):
        for key, value in shown.items():
            if key not in CHANGING:
                agree(value, told[key], f"{path}.{key}")
    elif isinstance(shown, list):
        assert len(shown) == len(told), path
        for index, (one, other) in enumerate(zip(shown, told, strict=True)):
            agree(one, other, f"{path}.{index}")
    elif isinstance(shown, float):
        assert shown == pytest.approx(told, rel=0.05, abs=0.1), path
    elif not path.endswith(".counts"):
        assert shown == told, path


def agree_as_text(shown: str, told: str) -> None:
    """Dots stand for anything, a line of them for any lines."""
    pattern = re.escape(shown.strip()).replace("\\\n…\\\n", "\n(?:.*\n)*?").replace("…", ".*")
    assert re.fullmatch(pattern, told.strip()), told


def test_every_task_is_shown() -> None:
    tasks = {re.search(r"/v1/([a-z-]+)", command)[1] for command, _ in EXAMPLES}  # type: ignore[index]
    assert tasks == {"caption", "answer", "detect", "segment", "read", "caption-region", "generate"}


@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=[command.split("/v1/")[1].split()[0] for command, _ in EXAMPLES])
def test_a_request_of_the_readme(server: Server, command: str, shown: str) -> None:
    run = command.replace("http://127.0.0.1:8000", server.url)
    output = subprocess.run(["bash", "-c", run], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    agree(json.loads(shown), json.loads(output))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Looks like the repository, and may be written to."""
    for name in ("service", "protos"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.parametrize("heading", [heading for heading in SECTIONS if heading != PAGE])
def test_a_client_of_the_readme(server: Server, folder: Path, heading: str) -> None:
    blocks = SECTIONS[heading]
    assert any(language in RUN for language, _ in blocks)
    told = ""
    # As in an activated environment.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for language, text in blocks:
        if language not in RUN:
            agree(json.loads(text), json.loads(told)) if language == "json" else agree_as_text(text, told)
            continue
        if language == "js":
            needed("node")
        elif "npm " in text:
            needed("npm")
        run = text.replace("127.0.0.1:8000", server.url.removeprefix("http://")).replace("127.0.0.1:8001", f"127.0.0.1:{server.grpc_port}")
        done = subprocess.run(
            [*RUN[language], run], cwd=folder, capture_output=True, text=True, timeout=200, check=False, env=os.environ | {"PATH": path}
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        told = done.stdout


@pytest.fixture
def page(server: Server) -> Iterator[Any]:
    """A real browser on a page of the server's origin."""
    chromium = needed("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET_BROWSER)
        opened = browser.new_page()
        opened.goto(f"{server.url}/livez")
        yield opened
        browser.close()


def test_a_page_of_the_readme(page: Any, sample: bytes) -> None:
    ((language, script),) = SECTIONS[PAGE]
    assert language == "js"
    asked = f"""async ([image, objects]) => {{
        {script}
        const bytes = Uint8Array.from(atob(image), (each) => each.charCodeAt(0));
        const found = [];
        try {{
            await detect(new File([bytes], "scene.png", {{ type: "image/png" }}), objects, (each) => found.push(each.label));
        }} catch (error) {{
            found.push(error.message);
        }}
        return found;
    }}"""
    picture = base64.b64encode(sample).decode()
    assert page.evaluate(asked, [picture, ["purple star", "sign"]]) == ["purple star", "sign"]
    (message,) = page.evaluate(asked, [picture, []])
    assert message == "objects: Field required."
    (message,) = page.evaluate(asked, ["AAAA", ["sign"]])
    assert "not an image" in message
