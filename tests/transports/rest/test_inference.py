"""``/v2`` over the fake service: bodies, binary tensors, compression, errors."""

import base64
import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import Draining
from service.transports.inference.tensors import unpack
from service.transports.rest.inference_bodies import MOST_RATIO, SMALL
from tests.transports.inference_body import binary_body
from tests.transports.rest.service_fake import IMAGE, IMAGE_TEXT, MAX_IMAGE_BYTES, Rest, problem

INFER = "/v2/models/fake-224/infer"
HEADER = "Inference-Header-Content-Length"


def inputs(images: list[str], prompts: list[str]) -> dict[str, Any]:
    made = [("image", images), ("prompt", prompts)]
    return {"inputs": [{"name": name, "datatype": "BYTES", "shape": [len(data)], "data": data} for name, data in made]}


def refused(rest: Rest, status: int, code: str, words: str, **arguments: Any) -> None:
    response = rest.call("POST", INFER, **arguments)
    body = problem(response, status, code)
    assert words in body["detail"]
    # What the protocol's clients read.
    assert body["error"] == body["detail"]
    assert rest.fake.calls == []


BODY = inputs([IMAGE_TEXT], ["caption en"])


def test_json_both_ways(rest: Rest) -> None:
    response = rest.call("POST", INFER, json=BODY | {"id": "mine", "parameters": {"max_tokens": 5}})
    assert response.status_code == 200
    body = response.json()
    assert (body["model_name"], body["model_version"], body["id"]) == ("fake-224", "1", "mine")
    text, result = body["outputs"]
    assert text == {"name": "text", "datatype": "BYTES", "shape": [1], "data": [" some text "]}
    assert json.loads(result["data"][0])["id"] == response.headers["x-request-id"]
    (call,) = rest.fake.calls
    assert (call[0], call[1], call[3], call[2].max_tokens) == ("generate", IMAGE, "caption en", 5)


@pytest.mark.parametrize("kind", [None, "application/octet-stream", "application/json", "nonsense"])
def test_the_content_type_is_not_asked(rest: Rest, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    assert rest.call("POST", INFER, content=json.dumps(BODY), headers=headers).status_code == 200


def test_bytes_both_ways(rest: Rest) -> None:
    body, length = binary_body([IMAGE, b"other"], [b"caption en", b"ocr"], parameters={"binary_data_output": True})
    response = rest.call("POST", "/v2/models/fake-224/versions/1/infer", content=body, headers={HEADER: str(length)})
    assert response.headers["content-type"] == "application/octet-stream"
    split = int(response.headers[HEADER])
    head = json.loads(response.content[:split])
    sizes = [output["parameters"]["binary_data_size"] for output in head["outputs"]]
    assert split + sum(sizes) == len(response.content)
    assert unpack("text", response.content[split : split + sizes[0]]) == [b" some text "] * 2
    ids = [json.loads(each)["id"] for each in unpack("result", response.content[split + sizes[0] :])]
    assert ids == [f"{response.headers['x-request-id']}-{number}" for number in range(2)]
    assert {call[1] for call in rest.fake.calls} == {IMAGE, b"other"}


def test_each_output_as_it_is_wanted(rest: Rest) -> None:
    wanted = [{"name": "result", "parameters": {"binary_data": True}}, {"name": "text"}]
    response = rest.call("POST", INFER, json=BODY | {"outputs": wanted})
    split = int(response.headers[HEADER])
    result, text = json.loads(response.content[:split])["outputs"]
    assert (result["name"], "data" in result, text["data"]) == ("result", False, [" some text "])
    assert len(response.content) == split + result["parameters"]["binary_data_size"]


def test_nested_data_and_a_column(rest: Rest) -> None:
    body = inputs([IMAGE_TEXT], ["a"])
    for each, data in zip(body["inputs"], ([[IMAGE_TEXT]], [["a"]]), strict=True):
        each |= {"shape": [1, 1], "data": data}
    assert rest.call("POST", INFER, json=body).json()["outputs"][0]["shape"] == [1, 1]


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("GZIP", gzip.compress)])
def test_compressed_bodies(rest: Rest, encoding: str, compress: Any) -> None:
    body, length = binary_body([IMAGE], [b"ocr"])
    # The header counts bytes as they were before.
    headers = {HEADER: str(length), "content-encoding": encoding}
    assert rest.call("POST", INFER, content=compress(body), headers=headers).status_code == 200


def test_threat_26_a_bomb_is_cut_off(rest: Rest) -> None:
    bomb = gzip.compress(bytes(50_000_000), mtime=0)
    assert len(bomb) < 60_000
    refused(rest, 413, "request_too_large", "image and all", content=bomb, headers={"content-encoding": "gzip"})


def test_threat_26_what_grows_too_much_is_cut_off_early(rest: Rest) -> None:
    grown = gzip.compress(b'{"inputs": ["' + b" " * 500_000, mtime=0)
    assert len(grown) * MOST_RATIO + SMALL < 500_000
    refused(rest, 413, "request_too_large", "decompressed", content=grown, headers={"content-encoding": "gzip"})
    twice = gzip.compress(gzip.compress(b"{}"), mtime=0)
    refused(rest, 400, "invalid_request", "not JSON", content=twice, headers={"content-encoding": "gzip"})
    assert rest.budget.held == 0


@pytest.mark.parametrize(
    ("content", "encoding", "status", "code", "words"),
    [
        (b"{}", "br", 415, "unsupported_media_type", "gzip, deflate"),
        (b"{}", "gzip, gzip", 415, "unsupported_media_type", "gzip, deflate"),
        (b"{}", "gzip", 400, "invalid_request", "not of its content encoding"),
        (gzip.compress(b"{}" * 1000, mtime=0)[:-9], "gzip", 400, "invalid_request", "broke off"),
        (gzip.compress(b"{}", mtime=0) + b"more", "gzip", 400, "invalid_request", "behind its end"),
    ],
)
def test_threat_26_bad_compression(rest: Rest, content: bytes, encoding: str, status: int, code: str, words: str) -> None:
    refused(rest, status, code, words, content=content, headers={"content-encoding": encoding})


@pytest.mark.parametrize("length", ["-1", "x", "99999", "1e3", "9" * 5000, "0"])
def test_a_bad_length_of_the_json(rest: Rest, length: str) -> None:
    refused(rest, 400, "invalid_request", "inference-header-content-length", content=b"{}", headers={HEADER: length})


@pytest.mark.parametrize("size", [True, "5", 1.5, -1, 10**9])
def test_a_bad_size_of_a_tensor(rest: Rest, size: object) -> None:
    body = inputs([IMAGE_TEXT], ["x"])
    body["inputs"][0] |= {"parameters": {"binary_data_size": size}}
    refused(rest, 422, "invalid_request", "inputs.image: binary_data_size", json=body)


def test_bytes_that_belong_to_nothing(rest: Rest) -> None:
    body, length = binary_body([IMAGE], [b"ocr"])
    refused(rest, 400, "invalid_request", "belong to no input", content=body + b"more", headers={HEADER: str(length)})


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"inputs": []}, 422, "inputs.image: this input is needed"),
        ({"inputs": "x"}, 422, "inputs: "),
        ({}, 422, "inputs: "),
        ({"parameters": {"colour": 1}} | BODY, 422, "there is no such parameter"),
        ({"outputs": [{"name": "boxes"}]} | BODY, 422, "there is no such output"),
        (inputs(["!!!"], ["x"]), 422, "inputs.image: this is neither"),
        (inputs([IMAGE_TEXT], ["x", "y"]) | {"id": 5}, 422, "id: "),
        (inputs([base64.b64encode(bytes(MAX_IMAGE_BYTES + 1)).decode()], ["x"]), 413, ""),
    ],
)
def test_bad_fields(rest: Rest, change: dict[str, Any], status: int, words: str) -> None:
    response = rest.call("POST", INFER, json=change)
    assert response.status_code == status
    assert words in response.json()["error"]
    assert rest.fake.calls == []


def test_health_and_metadata(rest: Rest) -> None:
    assert rest.get("/v2").json() == {"name": "paliserve", "version": rest.get("/openapi.json").json()["info"]["version"], **EXTENSIONS}
    assert rest.get("/v2/health/live").json() == {"live": True}
    assert rest.get("/v2/health/ready").json() == {"ready": True}
    for path in ("/v2/models/fake-224", "/v2/models/fake-224/versions/1"):
        assert rest.get(f"{path}/ready").json() == {"name": "fake-224", "ready": True}
        metadata = rest.get(path).json()
        assert (metadata["name"], metadata["versions"]) == ("fake-224", ["1"])
        assert metadata["outputs"] == [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in ("text", "result")]


EXTENSIONS = {"extensions": ["binary_tensor_data"]}


def test_a_server_that_is_not_ready_or_not_alive(rest: Rest) -> None:
    rest.service.refusal = Draining("Stopping.")
    for path in ("/v2/health/ready", "/v2/models/fake-224/ready"):
        body = problem(rest.get(path), 503, "draining")
        assert (body["ready"], body["error"]) == (False, "Stopping.")
    rest.service.lives = False
    assert problem(rest.get("/v2/health/live"), 503, "model_not_ready")["live"] is False


@pytest.mark.parametrize("path", ["no", "no/ready", "fake-224/versions/2", "fake-224/versions/2/ready"])
def test_unknown_models_and_versions(rest: Rest, path: str) -> None:
    path = f"/v2/models/{path}"
    assert problem(rest.get(path), 404, "model_not_found")["error"]
    assert problem(rest.call("POST", f"{path.removesuffix('/ready')}/infer", json=BODY), 404, "model_not_found")["error"]


def test_an_unknown_path_has_the_clients_error(rest: Rest) -> None:
    assert problem(rest.get("/v2/repository/index"), 404, "not_found")["error"]


def test_what_is_counted(rest: Rest) -> None:
    rest.call("POST", INFER, json=inputs([IMAGE_TEXT], ["a", "b"]))
    rest.call("POST", INFER, json={})
    assert sorted(rest.counted()) == [
        'paliserve_requests_total{code="invalid_request",model="_other",task="infer",transport="rest"} 1.0',
        'paliserve_requests_total{code="ok",model="fake-224",task="generate",transport="rest"} 2.0',
    ]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200), length=st.integers(0, 250), encoding=st.sampled_from(["identity", "gzip", "deflate"]))
def test_no_bytes_break_it(rest: Rest, body: bytes, length: int, encoding: str) -> None:
    whole, at = binary_body([IMAGE], [b"ocr"])
    for content, head in ((body, length), (whole[:at] + body, at), (whole[: at + length] + body, at)):
        response = rest.call("POST", INFER, content=content, headers={HEADER: str(head), "content-encoding": encoding})
        assert response.status_code in (200, 400, 413, 422)
