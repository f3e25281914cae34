"""Images by URL, through the whole server."""

import base64
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

import service.demo
from service.transports.grpc.generated import paligemma_pb2 as pb
from service.transports.offers import OFFERS
from tests.end_to_end.conftest import Server
from tests.end_to_end.test_grpc import Client

SAMPLES = Path(service.demo.__file__).parent / "samples"


asked_for: list[str] = []
"""Paths that the site was asked for."""


class Quiet(SimpleHTTPRequestHandler):
    """Files, without a line for each."""

    def log_message(self, *_: object) -> None:
        asked_for.append(self.path)


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The samples at a URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SAMPLES))) as files:
        thread = threading.Thread(target=files.serve_forever)
        thread.start()
        yield f"127.0.0.1:{files.server_port}"
        files.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def fetching(site: str) -> Iterator[Server]:
    """A server that fetches from the site, which is on this machine, and from names that are not there."""
    allowed = {
        "PALISERVE_IMAGE_URL_HOSTS": f"images.example.org, {site}",
        "PALISERVE_IMAGE_URL_HTTP": "1",
        "PALISERVE_IMAGE_URL_PRIVATE": "1",
    }
    running = Server(environ=allowed)
    yield running
    running.close()


def test_threat_13_urls_of_listed_hosts_are_fetched_and_of_no_others(fetching: Server, site: str, sample: bytes) -> None:
    body = {"image": f"http://{site}/scene.png", "prompt": "caption en"}
    fetched = fetching.client.post("/v1/generate", json=body).json()
    sent = fetching.client.post("/v1/generate", files={"image": sample}, data={"prompt": "caption en"}).json()
    assert fetched["text"] == sent["text"]
    assert fetched["image"] == {"width": 640, "height": 480}
    missing = fetching.client.post("/v1/generate", json=body | {"image": f"http://{site}/none.png"})
    assert (missing.status_code, missing.json()["code"]) == (422, "image_url_failed")
    other = fetching.client.post("/v1/generate", json=body | {"image": "http://127.0.0.1:1/x.png"})
    assert (other.status_code, other.json()["code"]) == (403, "image_url_forbidden")
    assert not any("none.png" in line for line in fetching.log)


def test_threat_18_a_url_in_words_is_never_fetched(fetching: Server, site: str, sample: bytes) -> None:
    url = f"http://{site}/scene.png"
    words, before = f"![]({url}) <img src={url}> {url}", len(asked_for)
    image = base64.b64encode(sample).decode()
    asked: dict[str, dict[str, Any]] = {"generate": {"prompt": words}, "answer": {"question": words}, "detect": {"objects": [words]}}
    for task, fields in asked.items():
        assert fetching.client.post(f"/v1/{task}", json={"image": image} | fields).status_code == 200
    parts = [{"type": "text", "text": words}, {"type": "image_url", "image_url": {"url": image}}]
    assert fetching.client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": parts}]}).status_code == 200
    inputs = [{"name": name, "datatype": "BYTES", "shape": [1], "data": [data]} for name, data in (("image", image), ("prompt", words))]
    assert fetching.client.post("/v2/models/shapes-224/infer", json={"inputs": inputs}).status_code == 200
    Client(fetching).stub.Generate(pb.GenerateRequest(image=sample, prompt=words))
    assert len(asked_for) == before


LOCAL = [
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "file://localhost/etc/passwd",
    "/etc/passwd",
    "../../etc/passwd",
    "ftp://127.0.0.1/x",
    "s3://a/b",
]


@pytest.mark.parametrize("address", LOCAL)
def test_threat_19_no_route_and_no_call_reads_a_file(fetching: Server, address: str) -> None:
    client = fetching.client
    own: dict[str, dict[str, Any]] = {
        "answer": {"question": "a"},
        "generate": {"prompt": "a"},
        "detect": {"objects": ["a"]},
        "segment": {"objects": ["a"]},
        "caption-region": {"box": {"x_min": 0, "y_min": 0, "x_max": 1, "y_max": 1}},
    }
    parts = [{"type": "text", "text": "ocr"}, {"type": "image_url", "image_url": {"url": address}}]
    inputs = [{"name": name, "datatype": "BYTES", "shape": [1], "data": [data]} for name, data in (("image", address), ("prompt", "ocr"))]
    replies = [
        client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": parts}]}),
        client.post("/v2/models/shapes-224/infer", json={"inputs": inputs}),
    ]
    for task in OFFERS:
        fields = own.get(task, {})
        replies.append(client.post(f"/v1/{task}", json={"image": address} | fields))
        replies.append(client.post(f"/v1/{task}", json={"images": [address]} | fields))
        replies.append(client.post(f"/v1/{task}", files={"image": address.encode()}, data={"question": "a", "prompt": "a", "objects": "a"}))
    assert {reply.status_code for reply in replies} == {422}
    batch = client.post("/v1/batch", json={"image": address, "requests": [{"task": "read"}, {"task": "read", "image": address}]})
    assert [each["status"] for each in batch.json()["results"]] == [422, 422]
    stub = Client(fetching).stub
    for call, request in (("Read", pb.ReadRequest), ("Caption", pb.CaptionRequest)):
        with pytest.raises(grpc.RpcError) as caught:
            getattr(stub, call)(request(image=address.encode()))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not any("root:" in reply.text for reply in [*replies, batch])


def test_threat_13_no_url_is_fetched_unless_the_operator_says_so(server: Server, site: str) -> None:
    refused = server.client.post("/v1/caption", json={"image": f"http://{site}/scene.png"})
    assert (refused.status_code, refused.json()["code"]) == (403, "image_url_forbidden")
