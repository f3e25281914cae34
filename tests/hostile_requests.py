"""Requests that were made to cost: small ones that become large, large ones that become larger, and those that ask for much work."""

import base64
import gzip
import json
import socket
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from struct import pack
from typing import Any

import grpc
import httpx
from PIL import Image

import service.demo
from service.transports.grpc.generated import inference_pb2, paligemma_pb2
from tests.end_to_end.conftest import Server

SAMPLE = (Path(service.demo.__file__).parent / "samples" / "scene.png").read_bytes()
SIDE = 8000
"""Pixels: 64 million of them are taken."""

NAMES = "purple star,red circle,sign,green square,cross,heart,blue star,gold sign".split(",")
PATIENCE = 120.0
"""Seconds."""

HONEST_TOKENS = 12
"""Of the answer to an honest request, and to each that is not about long answers."""


@dataclass(frozen=True, slots=True)
class Request:
    """``send`` sends it, waits for the answer, and returns how many bytes were sent. ``asked``: inferences that are asked for in it."""

    send: Callable[[], int]
    asked: int = 1


def png(bits: int, colour: int, side: int = SIDE, seed: int = 0) -> bytes:
    """A PNG of one colour, never held as a whole: ``colour`` is the format's own number for grey (0), RGB (2), palette (3), RGBA (6)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data))

    samples = {0: 1, 2: 3, 3: 1, 6: 4}[colour]
    row = bytes((side * samples * bits + 7) // 8 + 1)
    packer = zlib.compressobj(9)
    packed = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    palette = chunk(b"PLTE", bytes((seed, 0, 0)) * 2) if colour == 3 else chunk(b"tEXt", b"seed\0" + str(seed).encode())
    head = chunk(b"IHDR", pack(">IIBBBBB", side, side, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + palette + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def saved(mode: str, kind: str, size: tuple[int, int] = (SIDE, SIDE), **options: Any) -> bytes:
    """A picture of one colour in another format."""
    file = BytesIO()
    Image.new(mode, size).save(file, kind, **options)
    return file.getvalue()


def pictures() -> dict[str, bytes]:
    """Files of a few kilobytes that are pictures of 64 million pixels, or say so."""
    turned = Image.Exif()
    turned[0x0112] = 5
    return {
        "PNG, bilevel": png(1, 0),
        "PNG, palette": png(8, 3),
        "PNG, RGB": png(8, 2),
        "PNG, RGBA": png(8, 6),
        "PNG, RGB of 16 bits": png(16, 2),
        "JPEG, progressive": saved("RGB", "JPEG", progressive=True, quality=30),
        "JPEG, progressive, CMYK": saved("CMYK", "JPEG", progressive=True, quality=30),
        "JPEG, turned": saved("RGB", "JPEG", quality=30, exif=turned),
        "WebP": saved("RGB", "WEBP", (16_000, 3_999), lossless=True, method=0),
        "GIF": saved("L", "GIF"),
        "TIFF, deflate": saved("RGB", "TIFF", compression="tiff_deflate"),
        "PNG, a header alone": png(8, 2)[:60],
        "PNG of 2.5 thousand million pixels": png(1, 0, 50_000)[:3000],
    }


class Hostile:
    """All of them, against one server with the model ``shapes-224``."""

    def __init__(self, server: Server) -> None:
        self._client = httpx.Client(base_url=server.url, timeout=PATIENCE)
        self._address = (self._client.base_url.host, self._client.base_url.port)
        self._channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=(("grpc.use_local_subchannel_pool", 1),))

    def close(self) -> None:
        """Close what is open."""
        self._client.close()
        self._channel.close()

    def honest(self) -> Request:
        """A question about the sample. Its model writes on for ever, so that all are of the same length."""
        return self._json("generate", {"image": _text(SAMPLE), "prompt": "detect purple star ; sign", "max_tokens": HONEST_TOKENS})

    def requests(self) -> dict[str, Request]:
        """By what they try."""
        files = pictures()
        found = {name: self._form("caption", image) for name, image in files.items()}
        return found | self._bodies() | self._work(files["PNG, bilevel"]) | self._wire() | self._messages(files)

    def _bodies(self) -> dict[str, Request]:
        """What has to be read before it can be refused."""
        image = _text(SAMPLE)
        lists, values = "[" * 19_000 + "]" * 19_000, ",".join(["0"] * 19_000)
        boundary = "multipart/form-data; boundary=x"
        part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n'
        bomb = gzip.compress(bytes(60_000_000))
        infer = json.dumps({"inputs": [{"name": "prompt", "datatype": "BYTES", "shape": [1], "data": ["a" * 50_000_000]}]}).encode()
        packed, plain = {"content-encoding": "gzip"}, "application/json"
        return {
            "JSON, deep": self._raw("/v1/caption", b"[" * 20_000_000),
            "JSON, deep within the limit": self._raw("/v1/caption", f'{{"image": "{image}", "objects": {lists}}}'.encode()),
            "JSON, wide": self._raw("/v1/caption", b'{"a": [' + b"0," * 10_000_000 + b"0]}"),
            "JSON, wide within the limit": self._raw("/v1/detect", f'{{"image": "{image}", "objects": [{values}]}}'.encode()),
            "JSON, keys": self._raw("/v1/caption", json.dumps({str(number): 0 for number in range(19_000)}).encode()),
            "JSON, a number of a million digits": self._raw("/v1/caption", b'{"seed": ' + b"9" * 1_000_000 + b"}"),
            "JSON, escapes": self._raw("/v1/caption", b'{"image": "' + b"\\u0041" * 5_000_000 + b'"}'),
            "base64, blanks": self._raw("/v1/caption", b'{"image": "' + b" " * 20_000_000 + b'"}'),
            "base64 of nothing": self._json("caption", {"image": "A" * 26_000_000}),
            "form, parts": self._raw("/v1/caption", part * 50_000 + b"--x--", boundary),
            "form, a part's head": self._raw("/v1/caption", b"--x\r\n" + b"X: " + b"y" * 5_000_000 + b"\r\n\r\n", boundary),
            "form, a preamble": self._raw("/v1/caption", b"\r\n-" * 5_000_000, boundary),
            "form, nearly boundaries": self._raw("/v1/caption", b"--x\r\n\r\n" + b"\r\n--y" * 3_000_000, boundary),
            "gzip bomb": self._raw("/v2/models/shapes-224/infer", bomb, plain, packed),
            "gzip bomb within the limit": self._raw("/v2/models/shapes-224/infer", gzip.compress(infer), plain, packed),
            "prompt of 8192 characters": self._json("generate", {"image": image, "prompt": "e\u0301" * 4096}),
        }

    def _work(self, bomb: bytes) -> dict[str, Request]:
        """Requests as they should be, of the dearest kind."""
        image = _text(SAMPLE)
        long = {"prompt": "caption en", "max_tokens": 1024, "temperature": 2.0, "top_k": 100_000, "seed": 1}
        masks = {"objects": NAMES, "mask_format": "png", "max_tokens": 1024, "strict": True}
        shared = [{"task": "detect", "objects": ["sign"], "max_tokens": HONEST_TOKENS} for _ in range(64)]
        apart = [{"task": "read", "image": _text(png(1, 0, seed=number)), "max_tokens": HONEST_TOKENS} for number in range(8)]
        longest = {
            "1024 tokens": self._json("generate", {"image": image} | long),
            "1024 tokens, streamed": self._json("generate", {"image": image, "stream": True} | long),
            "16 names, strict": self._json("detect", {"image": image, "objects": NAMES * 2, "strict": True, "max_tokens": 1024}),
            "masks as PNG of 64 million pixels": self._json("segment", {"image": _text(bomb)} | masks),
            "masks as polygons": self._json("segment", {"image": _text(bomb)} | masks | {"mask_format": "polygon"}),
        }
        # Who asks for more tokens asks for as many honest requests.
        return {name: Request(each.send, 1024 // HONEST_TOKENS) for name, each in longest.items()} | {
            "batch of 64 about one picture": Request(self._json("batch", {"image": image, "requests": shared}).send, 64),
            "batch of 8 bombs": Request(self._json("batch", {"requests": apart}).send, 8),
        }

    def _wire(self) -> dict[str, Request]:
        """What HTTP itself is made of."""
        head = b"POST /v1/caption HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        return {
            "an endless header": self._socket(b"GET / HTTP/1.1\r\nX: " + b"y" * 10_000_000),
            "100,000 headers": self._socket(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x: y\r\n" * 100_000 + b"\r\n"),
            "200,000 chunks of a byte": self._socket(head + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n[\r\n" * 200_000 + b"0\r\n\r\n"),
            "10,000 ranges": self._socket(b"GET /livez HTTP/1.1\r\nHost: a\r\nRange: bytes=" + b"0-0," * 10_000 + b"0-0\r\n\r\n"),
            "1000 requests in one piece": Request(self._socket(b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n" * 1000).send, 1000),
        }

    def _messages(self, files: dict[str, bytes]) -> dict[str, Request]:
        """The same over gRPC, and what protobuf adds."""
        pb, tasks, infer = paligemma_pb2, "paligemma.v1.PaliGemmaService", "inference.GRPCInferenceService"
        read = pb.ReadRequest(image=SAMPLE, max_tokens=HONEST_TOKENS).SerializeToString()
        prompt = inference_pb2.ModelInferRequest.InferInputTensor(name="prompt", datatype="BYTES")
        prompt.shape.extend([1] * 5_000_000)
        floats = inference_pb2.ModelInferRequest(model_name="shapes-224")
        floats.inputs.add(name="prompt", datatype="BYTES", shape=[1]).contents.fp32_contents.extend([0.0] * 9_000_000)
        named = inference_pb2.ModelInferRequest(model_name="shapes-224")
        for number in range(200_000):
            named.parameters[str(number)].bool_param = True
        raw = inference_pb2.ModelInferRequest(model_name="shapes-224", raw_input_contents=[b""] * 2_000_000)
        shapes = inference_pb2.ModelInferRequest(model_name="shapes-224", inputs=[prompt])
        return {
            f"gRPC: {name}": self._call(f"/{tasks}/Read", pb.ReadRequest(image=files[name], max_tokens=HONEST_TOKENS).SerializeToString())
            for name in ("PNG, palette", "JPEG, progressive")
        } | {
            "gRPC: names": self._call(f"/{tasks}/Detect", pb.DetectRequest(image=SAMPLE, objects=[""] * 5_000_000).SerializeToString()),
            "gRPC: unknown fields": self._call(f"/{tasks}/Read", read + b"\xf8\x07\x01" * 5_000_000),
            "gRPC: nested groups": self._call(f"/{tasks}/Read", b"\xfb\x07" * 5_000_000),
            "gRPC: one field, over and over": self._call(f"/{tasks}/Read", read * 500),
            "gRPC: shapes": self._call(f"/{infer}/ModelInfer", shapes.SerializeToString()),
            "gRPC: floats": self._call(f"/{infer}/ModelInfer", floats.SerializeToString()),
            "gRPC: parameters": self._call(f"/{infer}/ModelInfer", named.SerializeToString()),
            "gRPC: raw contents": self._call(f"/{infer}/ModelInfer", raw.SerializeToString()),
        }

    def _json(self, task: str, fields: dict[str, Any]) -> Request:
        return self._raw(f"/v1/{task}", json.dumps(fields).encode())

    def _raw(self, path: str, body: bytes, kind: str = "application/json", headers: dict[str, str] | None = None) -> Request:
        def send() -> int:
            response = self._client.post(path, content=body, headers={"content-type": kind} | (headers or {}))
            if response.status_code == 500:
                raise AssertionError(response.text)
            return len(body)

        return Request(send)

    def _form(self, task: str, image: bytes) -> Request:
        def send() -> int:
            response = self._client.post(f"/v1/{task}", files={"image": image}, data={"max_tokens": str(HONEST_TOKENS)})
            if response.status_code == 500:
                raise AssertionError(response.text)
            return len(image)

        return Request(send)

    def _socket(self, sent: bytes) -> Request:
        def send() -> int:
            with socket.create_connection(self._address, timeout=PATIENCE) as connection:
                try:
                    connection.sendall(sent)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(1 << 16):
                        pass
                except ConnectionError:
                    # It would not take all of that.
                    pass
            return len(sent)

        return Request(send)

    def _call(self, path: str, sent: bytes) -> Request:
        call: Any = self._channel.unary_unary(path)

        def send() -> int:
            try:
                call(sent, timeout=PATIENCE)
            except grpc.RpcError as error:
                refused: Any = error
                if refused.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise AssertionError(refused.details()) from None
            return len(sent)

        return Request(send)


def _text(image: bytes) -> str:
    return base64.b64encode(image).decode()
