"""Triton's official clients against a running server, in a process of its own.

``python triton_client.py HOST:PORT HOST:GRPC_PORT PICTURE`` prints "ok NAME" for each check; an exception ends it.
"""

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as over_grpc_async
import tritonclient.http as over_http
import tritonclient.http.aio as over_http_async
from tritonclient.utils import InferenceServerException

HTTP, GRPC, PICTURE = sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_bytes()
MODEL = "shapes-224"
PROMPTS = ["caption en", "ocr", "detect sign"]
TEXTS = ["a green square, a purple star and a sign", "GIFT"]
FORMS: dict[str, tuple[Any, Any]] = {
    "http": (over_http, over_http.InferenceServerClient(HTTP, concurrency=2)),
    "grpc": (over_grpc, over_grpc.InferenceServerClient(GRPC)),
}


def inputs(module: Any, images: list[bytes], prompts: list[str], column: bool = False, **how: bool) -> list[Any]:
    made = []
    for name, elements in (("image", images), ("prompt", [prompt.encode() for prompt in prompts])):
        array = np.array(elements, dtype=np.object_)
        array = array.reshape(-1, 1) if column else array
        made.append(module.InferInput(name, list(array.shape), "BYTES"))
        made[-1].set_data_from_numpy(array, **how)
    return made


def texts(result: Any) -> list[str]:
    # Of JSON the client makes text, of binary data bytes.
    return [text if isinstance(text, str) else text.decode() for text in result.as_numpy("text").reshape(-1)]


def check_health(module: Any, client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "1")
    assert not client.is_model_ready(MODEL, "2")
    assert not client.is_model_ready("unknown")


def check_metadata(module: Any, client: Any) -> None:
    json_too = {"as_json": True} if module is over_grpc else {}
    server = client.get_server_metadata(**json_too)
    assert server["name"] == "paliserve"
    assert server["extensions"] == ["binary_tensor_data"]
    model = client.get_model_metadata(MODEL, **json_too)
    assert (model["name"], model["versions"]) == (MODEL, ["1"])
    assert [(each["name"], each["datatype"]) for each in model["inputs"]] == [("image", "BYTES"), ("prompt", "BYTES")]
    assert [(each["name"], each["datatype"]) for each in model["outputs"]] == [("text", "BYTES"), ("result", "BYTES")]
    assert [[int(side) for side in each["shape"]] for each in model["inputs"]] == [[-1], [-1]]


def check_one(module: Any, client: Any) -> None:
    result = client.infer(MODEL, inputs(module, [PICTURE], ["caption en"]), request_id="mine")
    assert texts(result) == TEXTS[:1]
    (told,) = result.as_numpy("result")
    body = json.loads(told)
    assert (body["text"], body["model"], body["task"]) == (TEXTS[0], MODEL, "generate")
    response = result.get_response()
    assert (response["id"] if isinstance(response, dict) else response.id) == "mine"


def check_several(module: Any, client: Any) -> None:
    for images, column in (([PICTURE] * 3, False), ([PICTURE], False), ([PICTURE] * 3, True)):
        if column and len(images) == 1:
            continue
        result = client.infer(MODEL, inputs(module, images, PROMPTS, column), model_version="1")
        assert texts(result)[:2] == TEXTS
        assert result.as_numpy("text").shape == ((3, 1) if column else (3,))
        last = json.loads(result.as_numpy("result").reshape(-1)[2])
        assert [each["label"] for each in last["detections"]] == ["sign"]


def check_wanted_outputs(module: Any, client: Any) -> None:
    result = client.infer(MODEL, inputs(module, [PICTURE], ["ocr"]), outputs=[module.InferRequestedOutput("text")])
    assert texts(result) == ["GIFT"]
    assert result.as_numpy("result") is None


def check_parameters(module: Any, client: Any) -> None:
    parameters = {"max_tokens": 1, "strict": True, "temperature": "0.5", "seed": 7}
    result = client.infer(MODEL, inputs(module, [PICTURE], ["caption en"]), parameters=parameters)
    body = json.loads(result.as_numpy("result")[0])
    assert (body["finish_reason"], body["usage"]["completion_tokens"]) == ("length", 1)


def check_errors(module: Any, client: Any) -> None:
    def refused(words: str, model: str = MODEL, made: list[Any] | None = None, **more: Any) -> None:
        with pytest.raises(InferenceServerException) as caught:
            client.infer(model, made or inputs(module, [PICTURE], ["caption en"]), **more)
        assert words in caught.value.message(), caught.value.message()

    refused("there is shapes-224", "unknown")
    refused("no such version", model_version="7")
    refused("not an image", made=inputs(module, [b"no picture"], ["caption en"]))
    refused("Prompt 1: ", made=inputs(module, [PICTURE, b"no picture"], ["caption en", "caption en"]))
    refused("as many pictures", made=inputs(module, [PICTURE] * 2, ["caption en"] * 3))
    refused("this input is needed", made=inputs(module, [PICTURE], ["caption en"])[:1])
    refused("there is no such parameter", parameters={"colour": 1})
    refused("max_tokens", parameters={"max_tokens": 5000})
    refused("there is no such output", outputs=[module.InferRequestedOutput("boxes")])
    wrong = module.InferInput("image", [1], "FP32")
    wrong.set_data_from_numpy(np.zeros(1, dtype=np.float32))
    refused("datatype must be BYTES", made=[wrong, inputs(module, [PICTURE], ["caption en"])[1]])


def check_json_over_http(module: Any, client: Any) -> None:
    """No bytes but base64: the client writes JSON as UTF-8."""
    made = inputs(over_http, [base64.b64encode(PICTURE)], ["ocr"], binary_data=False)
    wanted = [over_http.InferRequestedOutput("text", binary_data=False)]
    assert texts(FORMS["http"][1].infer(MODEL, made, outputs=wanted)) == ["GIFT"]


def check_compression_over_http(module: Any, client: Any) -> None:
    for algorithm in ("gzip", "deflate"):
        result = FORMS["http"][1].infer(MODEL, inputs(over_http, [PICTURE], ["ocr"]), request_compression_algorithm=algorithm)
        assert texts(result) == ["GIFT"]


async def check_async() -> None:
    for module, address in ((over_http_async, HTTP), (over_grpc_async, GRPC)):
        plain = over_http if module is over_http_async else over_grpc
        client = module.InferenceServerClient(address)
        results = await asyncio.gather(*(client.infer(MODEL, inputs(plain, [PICTURE], ["ocr"])) for _ in range(8)))
        assert [texts(result) for result in results] == [["GIFT"]] * 8
        await client.close()


def main() -> None:
    for check in (check_health, check_metadata, check_one, check_several, check_wanted_outputs, check_parameters, check_errors):
        for name, (module, client) in FORMS.items():
            check(module, client)
            print("ok", check.__name__, name)
    for check in (check_json_over_http, check_compression_over_http):
        check(None, None)
        print("ok", check.__name__)
    asyncio.run(check_async())
    print("ok", check_async.__name__)
    for _, client in FORMS.values():
        client.close()


if __name__ == "__main__":
    main()
