"""KServe's official clients against a running server, in a process of its own: ``python kserve_client.py URL HOST:GRPC_PORT PICTURE``.

Prints "ok NAME" for each check; an exception ends it.
"""

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

URL, GRPC, PICTURE = sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_bytes()
MODEL = "shapes-224"
CAPTION = "a green square, a purple star and a sign"


def request(images: list[Any], prompts: list[Any], binary: bool = True, **more: Any) -> InferRequest:
    made = []
    for name, elements in (("image", images), ("prompt", prompts)):
        made.append(InferInput(name=name, shape=[len(elements)], datatype="BYTES"))
        made[-1].set_data_from_numpy(np.array(elements, dtype=np.object_), binary_data=binary)
    return InferRequest(model_name=MODEL, infer_inputs=made, request_id="mine", **more)


def texts(response: Any, name: str = "text") -> list[str]:
    (output,) = [each for each in response.outputs if each.name == name]
    return [each.decode() if isinstance(each, bytes) else str(each) for each in output.as_numpy().reshape(-1)]


async def check_rest(client: InferenceRESTClient) -> None:
    assert await client.is_server_live(URL)
    assert await client.is_server_ready(URL)
    assert await client.is_model_ready(URL, MODEL)
    assert not await client.is_model_ready(URL, "unknown")
    response = await client.infer(URL, request([PICTURE, PICTURE], [b"caption en", b"ocr"]), model_name=MODEL)
    assert (response.model_name, response.id) == (MODEL, "mine")
    assert texts(response) == [CAPTION, "GIFT"]
    assert json.loads(texts(response, "result")[0])["score"] > 0.9
    wanted = [RequestedOutput("text", {"binary_data": True})]
    response = await client.infer(URL, request([PICTURE], [b"ocr"], request_outputs=wanted), model_name=MODEL)
    assert texts(response) == ["GIFT"]
    coded = base64.b64encode(PICTURE).decode()
    response = await client.infer(URL, request([coded], ["ocr"], binary=False, parameters={"max_tokens": 8}), model_name=MODEL)
    assert texts(response) == ["GIFT"]


async def check_rest_errors(client: InferenceRESTClient) -> None:
    for wrong, model, status, words in (
        (request([PICTURE], [b"ocr"]), "unknown", 404, MODEL),
        (request([b"no picture"], [b"ocr"]), MODEL, 422, "not an image"),
        (request([PICTURE] * 2, [b"ocr"]), MODEL, 422, "as many pictures"),
    ):
        with pytest.raises(httpx.HTTPStatusError) as caught:
            await client.infer(URL, wrong, model_name=model)
        assert caught.value.response.status_code == status
        assert words in caught.value.response.json()["error"]


async def check_grpc(client: InferenceGRPCClient) -> None:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready(MODEL)
    assert not await client.is_model_ready("unknown")
    response = await client.infer(request([PICTURE, PICTURE], [b"caption en", b"ocr"]))
    assert (response.model_name, response.id) == (MODEL, "mine")
    assert texts(response) == [CAPTION, "GIFT"]


async def check_grpc_errors(client: InferenceGRPCClient) -> None:
    for wrong, code, words in (
        (request([b"no picture"], [b"ocr"]), grpc.StatusCode.INVALID_ARGUMENT, "not an image"),
        (request([PICTURE], [b"ocr"], parameters={"colour": 1}), grpc.StatusCode.INVALID_ARGUMENT, "no such parameter"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            await client.infer(wrong)
        error: Any = caught.value
        assert error.code() is code
        assert words in error.details()


async def main() -> None:
    rest = InferenceRESTClient(RESTConfig(protocol="v2", retries=1, timeout=60))
    # Its own default, one retry, makes a service config that gRPC refuses: at least two attempts are needed there.
    over_grpc = InferenceGRPCClient(GRPC, retries=2, timeout=60)
    for check, client in ((check_rest, rest), (check_rest_errors, rest), (check_grpc, over_grpc), (check_grpc_errors, over_grpc)):
        asked: Any = check
        await asked(client)
        print("ok", check.__name__)
    await rest.close()
    await over_grpc.close()


if __name__ == "__main__":
    asyncio.run(main())
