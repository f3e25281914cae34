"""A client that asks for an answer that takes long, tells when it is written, and waits to be killed: WAY URL GRPC-PORT PICTURE."""

import sys
from pathlib import Path
from typing import Any

import grpc
import httpx

from service.transports.grpc.generated import paligemma_pb2 as pb
from service.transports.grpc.generated import paligemma_pb2_grpc


def main(way: str, url: str, port: str, picture: str) -> None:
    """Ask; over gRPC and as a stream until the first token."""
    image = Path(picture).read_bytes()
    fields = {"prompt": "caption en", "max_tokens": "1024"}
    if way == "grpc":
        stub: Any = paligemma_pb2_grpc.PaliGemmaServiceStub(grpc.insecure_channel(f"127.0.0.1:{port}"))  # type: ignore[no-untyped-call]
        for _ in stub.StreamGenerate(pb.StreamGenerateRequest(image=image, prompt="caption en", max_tokens=1024)):
            print("written", flush=True)
    elif way == "events":
        with httpx.stream("POST", f"{url}/v1/generate", files={"image": image}, data=fields | {"stream": "true"}, timeout=60) as answer:
            for _ in answer.iter_lines():
                print("written", flush=True)
    else:
        httpx.post(f"{url}/v1/generate", files={"image": image}, data=fields, timeout=60)


if __name__ == "__main__":
    main(*sys.argv[1:])
