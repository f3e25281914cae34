"""The examples of README and of the documents behind it, as they stand there: each answers what stands below it."""

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from tests.end_to_end.conftest import QUIET_BROWSER, Server, needed
from tests.end_to_end.readmes import agree, run, run_all, sections

ROOT = Path(__file__).parents[2]
README, SERVER, CLIENTS = ((ROOT / folder / "README.md").read_text() for folder in ("", "service", "service/transports"))
RECIPES = README.partition("\n## Recipes\n")[2].partition("\n## ")[0]
EXAMPLES = re.findall(r"```sh\n(curl .*?)```\s*```json\n(.*?)```", README.replace(RECIPES, "") + SERVER, re.DOTALL)
ALONE = "Without a server"
SECTIONS = sections(CLIENTS, "##") | sections(RECIPES, "###") | {ALONE: sections(README, "##")[ALONE]}
"""By heading: see ``run_all``."""

PAGE = "A page in a browser"
MANY = "Many pictures, several at once"


def test_every_task_is_shown() -> None:
    tasks = {re.search(r"/v1/([a-z-]+)", command)[1] for command, _ in EXAMPLES}  # type: ignore[index]
    assert tasks == {"caption", "answer", "detect", "segment", "read", "caption-region", "generate"}


@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=[command.split("/v1/")[1].split()[0] for command, _ in EXAMPLES])
def test_a_request_of_the_readme(server: Server, command: str, shown: str) -> None:
    about = command.replace("http://127.0.0.1:8000", server.url)
    output = subprocess.run(["bash", "-c", about], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    agree(json.loads(shown), json.loads(output))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Looks like the repository, and may be written to."""
    for name in ("service", "protos"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.parametrize("heading", [heading for heading in SECTIONS if heading != PAGE])
def test_a_client_of_the_readme(server: Server, folder: Path, heading: str) -> None:
    run_all(SECTIONS[heading], server, folder)


def test_a_recipe_waits_for_a_server_that_is_full(folder: Path) -> None:
    ((language, text), _) = SECTIONS[MANY]
    narrow = Server(environ={"PALISERVE_MAX_QUEUE": "1", "PALISERVE_WORKERS": "0"})
    try:
        many = text.replace("main(sorted(", "main(20 * sorted(")
        assert many != text
        assert len(run((language, many), narrow, folder).splitlines()) == 100
        assert narrow.series("paliserve_requests_refused_total", reason="queue_full") > 0
    finally:
        narrow.close()


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
