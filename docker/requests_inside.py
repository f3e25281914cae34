"""Run by check.py inside the container, with the image's own Python: a request over HTTP, one over gRPC, and what may be written to."""

import base64
import errno
import json
import os
import re
import sys
import urllib.request
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

import service.demo


def caption() -> str:
    """Of the sample picture, over HTTP."""
    picture = (Path(service.demo.__file__).parent / "samples" / "scene.png").read_bytes()
    body = json.dumps({"image": base64.b64encode(picture).decode()}).encode()
    request = urllib.request.Request("http://127.0.0.1:8000/v1/caption", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        text: str = json.load(response)["caption"]
    return text


def health() -> str:
    """Of the whole server, over gRPC."""
    with grpc.insecure_channel("127.0.0.1:8001") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return name


def writing(folder: str) -> str:
    """The system's word for why it does not work, or ``written``."""
    try:
        (Path(folder) / "written").touch()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "written"


if __name__ == "__main__":
    found = {
        "caption": caption(),
        "health": health(),
        "uid": os.getuid(),
        "groups": os.getgroups(),
        "cache": writing(os.environ["HF_HOME"]),
        "tmp": writing("/tmp"),
        "capabilities": re.findall(r"^Cap(?:Prm|Eff|Bnd):\s*(\w+)", Path("/proc/1/status").read_text(), re.MULTILINE),
    }
    json.dump(found, sys.stdout)
