"""Images by URL, through the whole server."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import service.demo
from tests.end_to_end.conftest import Server

SAMPLES = Path(service.demo.__file__).parent / "samples"


class Quiet(SimpleHTTPRequestHandler):
    """Files, without a line for each."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    """The samples at a URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SAMPLES))) as files:
        thread = threading.Thread(target=files.serve_forever)
        thread.start()
        yield f"127.0.0.1:{files.server_port}"
        files.shutdown()
        thread.join()


def test_urls_of_listed_hosts_are_fetched_and_of_no_others(site: str, sample: bytes) -> None:
    allowed = {
        "PALISERVE_IMAGE_URL_HOSTS": f"images.example.org, {site}",
        "PALISERVE_IMAGE_URL_HTTP": "1",
        "PALISERVE_IMAGE_URL_PRIVATE": "1",
    }
    running = Server(environ=allowed)
    try:
        body = {"image": f"http://{site}/scene.png", "prompt": "caption en"}
        fetched = running.client.post("/v1/generate", json=body).json()
        sent = running.client.post("/v1/generate", files={"image": sample}, data={"prompt": "caption en"}).json()
        assert fetched["text"] == sent["text"]
        assert fetched["image"] == {"width": 640, "height": 480}
        missing = running.client.post("/v1/generate", json=body | {"image": f"http://{site}/none.png"})
        assert (missing.status_code, missing.json()["code"]) == (422, "image_url_failed")
        other = running.client.post("/v1/generate", json=body | {"image": "http://127.0.0.1:1/x.png"})
        assert (other.status_code, other.json()["code"]) == (403, "image_url_forbidden")
        assert not any("none.png" in line for line in running.log)
    finally:
        running.close()


def test_no_url_is_fetched_unless_the_operator_says_so(server: Server, site: str) -> None:
    refused = server.client.post("/v1/caption", json={"image": f"http://{site}/scene.png"})
    assert (refused.status_code, refused.json()["code"]) == (403, "image_url_forbidden")
