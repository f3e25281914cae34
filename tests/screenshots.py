"""Takes the README's pictures of the playground: ``python -m tests.screenshots``."""

import io
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

import service.transports.rest.playground.files as playground
from tests.end_to_end.conftest import BROWSER, Server, needed
from tests.end_to_end.visitor import Visitor

FOLDER = Path(playground.__file__).parent / "screenshots"
WIDE = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 980}, "has_touch": True, "is_mobile": True, "device_scale_factor": 1.5}


def visitor(browser: Browser, server: Server, **settings: Any) -> Visitor:
    """Somebody with a browser of these settings, and no motion."""
    return Visitor(browser.new_context(reduced_motion="reduce", **settings).new_page(), server.url).open()


def keep(visitor: Visitor, name: str) -> None:
    """Write what is to be seen from the top."""
    visitor.page.mouse.move(0, 0)
    visitor.page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    write(visitor.page.screenshot(), name)


def write(picture: bytes, name: str) -> None:
    """A file as small as it can be."""
    with Image.open(io.BytesIO(picture)) as taken:
        taken.convert("RGB").save(FOLDER / name, optimize=True)
    print(name, (FOLDER / name).stat().st_size)


def draw_tasks(browser: Browser, server: Server) -> None:
    """What each task that draws makes of the sample picture."""
    small = visitor(browser, server, color_scheme="light", viewport={"width": 800, "height": 900})
    small.sample("scene.png")
    for task in ("detect", "segment", "caption-region"):
        small.choose(task).ask()
        small.page.mouse.move(0, 0)
        write(small.page.locator("#canvas").screenshot(), f"{task}.png")


def take(browser: Browser, server: Server) -> None:
    """All of them."""
    light = visitor(browser, server, color_scheme="light", **WIDE)
    light.sample("scene.png").choose("read").ask()
    light.choose("answer").ask()
    light.sample("shapes.png").choose("segment").page.select_option("#model", "resolution:448")
    light.page.fill("#objects", "purple star")
    light.page.press("#objects", "Enter")
    light.ask()
    keep(light, "light.png")
    dark = visitor(browser, server, color_scheme="dark", **WIDE)
    dark.sample("small.png").choose("caption").page.select_option("#model", "resolution:448")
    dark.ask()
    dark.sample("scene.png").choose("detect").ask()
    keep(dark, "dark.png")
    phone = visitor(browser, server, color_scheme="light", **PHONE)
    phone.sample("sign.png").choose("detect").ask()
    keep(phone, "phone.png")
    draw_tasks(browser, server)


def main() -> None:
    """Start a server and a browser for it."""
    FOLDER.mkdir(exist_ok=True)
    server = Server()
    try:
        with sync_playwright() as playwright:
            take(playwright.chromium.launch(executable_path=needed("chromium"), args=BROWSER), server)
    finally:
        server.close()


if __name__ == "__main__":
    main()
