"""Random and spoilt messages for every method of the gRPC server: ``python -m tests.grpc_fuzz --seconds 300``.

Each case is made of the seed and its number alone, so that one that failed can be sent again: ``--first NUMBER --cases 1``.
"""

import argparse
import random
import shutil
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import service.demo
from service.transports.grpc.generated import inference_pb2, paligemma_pb2
from tests.end_to_end.conftest import Server

SAMPLE = (Path(service.demo.__file__).parent / "samples" / "scene.png").read_bytes()
HANGS_AFTER = 60.0
"""Seconds. No request that was sent asks for an answer that takes as long."""

AT_ONCE = 4
BROKEN = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS})
"""What a client never may see, whatever it sent."""

WORDS = """caption en|ocr|detect purple star ; sign|segment sign|answer en what color is the star?|shapes-224|part-codes|image|prompt|BYTES|
text|1|en|fr|<loc0000>|<image>|<eos>|;| ; |\n|\x00|\x1b[31m|\u202e|e\u0301\u0301\u0301|\U0001f600|file:///etc/passwd|https://a/x.png|../x|%s{}|NaN"""
TEXTS = ["", *WORDS.split("|")]
NUMBERS = [0, 1, 2, 3, 7, 16, 64, 65, 224, 448, 1024, 1025, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1, -1, -(2**31), -(2**63)]
FLOATS = [0.0, -0.0, 0.5, 1.0, 2.0, 1e-45, 1e38, 1e308, -1.0, float("nan"), float("inf"), float("-inf")]
LIKELY: dict[str, list[Any]] = {
    "model_name": ["shapes-224"], "model": ["shapes-224"], "name": ["image", "prompt", "shapes-224"], "datatype": ["BYTES"], "shape": [1],
    "language": ["en"], "adapter": ["part-codes"], "max_tokens": [1, 2, 8], "objects": ["sign", "star"], "resolution": [0, 1, 224],
    "x_min": [0.0, 5.0], "y_min": [0.0, 5.0], "x_max": [99.0, 640.0], "y_max": [99.0, 480.0], "temperature": [0.0, 1.0], "top_k": [5],
    "top_p": [0.5, 1.0], "timeout_ms": [60_000], "model_version": ["", "1"], "version": ["", "1"], "prompt": ["ocr", "caption en"],
}  # fmt: skip
"""By the field's name: what lets a request come further than its first check."""

RANGES = {"int32": (-(2**31), 2**31), "int64": (-(2**63), 2**63), "uint32": (0, 2**32), "uint64": (0, 2**64), "enum": (-(2**31), 2**31)}


def methods() -> list[MethodDescriptor]:
    """All that are served, but those of the library's own services."""
    services = (
        paligemma_pb2.DESCRIPTOR.services_by_name["PaliGemmaService"],
        inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"],
    )
    return [method for each in services for method in each.methods]


class Maker:
    """Makes what is sent, by chance."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def sent(self, method: MethodDescriptor) -> bytes:
        """A message of the method's, more or less: some are as they should be, some were spoilt behind their making."""
        whole = self._filled(GetMessageClass(method.input_type)(), depth=0).SerializeToString()
        if self._chance.random() < 0.5:
            return whole
        return self._spoilt(whole, lambda: self._filled(GetMessageClass(method.input_type)(), depth=0).SerializeToString())

    def _filled(self, message: Message, depth: int) -> Message:
        for each in message.DESCRIPTOR.fields:
            wanted = each.name in ("image", "prompt", "objects", "question", "max_tokens", "model_name", "inputs", "box")
            if self._chance.random() < (0.85 if wanted else 0.15):
                self._fill(message, each, depth)
        return message

    def _fill(self, message: Any, each: Any, depth: int) -> None:
        if each.message_type is not None and each.message_type.GetOptions().map_entry:
            for _ in range(self._count()):
                inner = getattr(message, each.name)[self._text()[:100]]
                self._filled(inner, depth + 1)
        elif each.is_repeated and each.message_type is not None:
            for _ in range(min(self._count(), 20)):
                self._filled(getattr(message, each.name).add(), depth + 1)
        elif each.is_repeated:
            getattr(message, each.name).extend(self._value(each) for _ in range(self._count()))
        elif each.message_type is not None:
            getattr(message, each.name).SetInParent()
            self._filled(getattr(message, each.name), depth + 1)
        else:
            setattr(message, each.name, self._value(each))

    def _count(self) -> int:
        return self._chance.choice((0, 1, 1, 1, 2, 2, 3, 16, 17, 65, 1001))

    def _value(self, each: FieldDescriptor) -> Any:
        chance, kind = self._chance, each.type
        if each.name in LIKELY and chance.random() < 0.75:
            return chance.choice(LIKELY[each.name])
        if each.enum_type is not None and chance.random() < 0.6:
            return chance.choice(each.enum_type.values).number
        if kind in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
            return chance.choice([*FLOATS, chance.uniform(-3, 3), struct.unpack("<f", chance.randbytes(4))[0]])
        plain: dict[int, Callable[[], Any]] = {
            FieldDescriptor.TYPE_BYTES: self._bytes,
            FieldDescriptor.TYPE_STRING: self._text,
            FieldDescriptor.TYPE_BOOL: lambda: chance.random() < 0.5,
        }
        if kind in plain:
            return plain[kind]()
        name = {1: "int64", 2: "int64", 3: "int64", 4: "uint64", 5: "int32", 13: "uint32", 14: "enum", 17: "int32", 18: "int64"}[kind]
        low, high = RANGES[name]
        return chance.choice([number for number in [*NUMBERS, chance.randrange(low, high)] if low <= number < high])

    def _text(self) -> str:
        chance = self._chance
        if chance.random() < 0.85:
            return chance.choice(TEXTS)
        made = "".join(chr(chance.choice((chance.randrange(32, 127), chance.randrange(1, 0xD800)))) for _ in range(chance.randint(1, 40)))
        return made * chance.choice((1, 1, 10, 300, 20_000))

    def _bytes(self) -> bytes:
        chance = self._chance
        roll = chance.random()
        if roll < 0.6:
            return SAMPLE
        if roll < 0.75:
            return self._flipped(SAMPLE)
        if roll < 0.85:
            return chance.choice(TEXTS).encode()
        return chance.randbytes(chance.choice((0, 1, 7, 300, 100_000)))

    def _flipped(self, whole: bytes) -> bytes:
        spoilt = bytearray(whole)
        for _ in range(self._chance.randint(1, 8)):
            if spoilt:
                spoilt[self._chance.randrange(len(spoilt))] ^= 1 << self._chance.randrange(8)
        return bytes(spoilt)

    def _spoilt(self, whole: bytes, another: Callable[[], bytes]) -> bytes:
        chance = self._chance
        at = chance.randint(0, len(whole))
        ways: list[Callable[[], bytes]] = [
            lambda: self._flipped(whole),
            lambda: self._flipped(whole[:200]) + whole[200:],
            lambda: whole[:at],
            lambda: whole[at:],
            lambda: whole[:at] + another()[-at:],
            lambda: whole + another(),
            lambda: whole * chance.choice((2, 3, 50)) if len(whole) < 10_000 else whole,
            lambda: whole + self._unknown_fields(),
            lambda: whole[:at] + chance.randbytes(chance.randint(1, 30)) + whole[at:],
            lambda: chance.randbytes(chance.randint(0, 300)),
            lambda: b"",
            self._nested,
            lambda: b"\x0a" + b"\xff" * 9 + b"\x01" + whole,
        ]
        return chance.choice(ways)()

    def _unknown_fields(self) -> bytes:
        chance, made = self._chance, b""
        for _ in range(chance.choice((1, 5, 3000))):
            number, kind = chance.randrange(1, 2**29), chance.choice((0, 1, 2, 5))
            made += _varint(number << 3 | kind)
            made += {0: _varint(chance.randrange(2**64)), 1: bytes(8), 2: b"\x03abc", 5: bytes(4)}[kind]
        return made

    def _nested(self) -> bytes:
        chance, made = self._chance, b""
        if chance.random() < 0.5:
            return bytes([chance.randrange(1, 16) << 3 | 3]) * chance.choice((10, 200, 100_000))
        tag = bytes([chance.randrange(1, 16) << 3 | 2])
        for _ in range(chance.choice((3, 101, 2000))):
            made = tag + _varint(len(made)) + made
        return made


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    return bytes([*made, number])


@dataclass
class Tally:
    """What was sent and what came of it."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    cases: int = 0
    first_resident: int = 0
    last_resident: int = 0

    def table(self) -> str:
        """Methods down, statuses across."""
        statuses = sorted({status for _, status in self.outcomes})
        lines = [f"| method | {' | '.join(statuses)} |", f"| --- |{' ---: |' * len(statuses)}"]
        for name in sorted({method for method, _ in self.outcomes}):
            lines += [f"| {name} | {' | '.join(str(self.outcomes[name, status]) for status in statuses)} |"]
        return "\n".join(lines)


class Fuzzer:
    """Sends cases to a server."""

    def __init__(self, server: Server, seed: int) -> None:
        self._channel: Any = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=(("grpc.use_local_subchannel_pool", 1),))
        self._server = psutil.Process(server.process.pid)
        self._seed = seed
        self._lock = threading.Lock()
        self.tally = Tally()

    def run(self, cases: Iterator[int], until: float, warm: int) -> Tally:
        """Send cases until ``until``, by the monotonic clock; ``warm`` is the number of the case behind which memory should not grow."""

        def work() -> None:
            while time.monotonic() < until:
                with self._lock:
                    number = next(cases, None)
                    if number is None:
                        return
                self._send(number)
                with self._lock:
                    self.tally.cases += 1
                    if self.tally.cases == warm:
                        self.tally.first_resident = self.resident()

        with ThreadPoolExecutor(AT_ONCE) as threads:
            for each in [threads.submit(work) for _ in range(AT_ONCE)]:
                each.result()
        self.tally.last_resident = self.resident()
        self._channel.close()
        return self.tally

    def resident(self) -> int:
        """Bytes of memory of the server and its processes; what they share is counted once."""
        return sum(each.memory_full_info().pss for each in (self._server, *self._server.children(recursive=True)))

    def _send(self, number: int) -> None:
        chance = random.Random(f"{self._seed}-{number}")
        method, maker = chance.choice(methods()), Maker(chance)
        metadata = (
            ("x-request-id", chance.choice(("a", "a b", "x" * 3000, "..", "%0a"))),
            ("traceparent", chance.choice(("", "00-0-0-0", "x" * 99))),
        )
        timeout = chance.choice((0.001, 0.05, *[HANGS_AFTER] * 8))
        began = time.monotonic()
        try:
            self._call(method, maker, chance, timeout, metadata)
            status = "OK"
        except grpc.RpcError as error:
            refused: Any = error
            status = refused.code().name
            if refused.code() in BROKEN:
                self.tally.wrong.append(f"{method.full_name} {status} {refused.details()!r}, case {number}")
        if time.monotonic() - began >= HANGS_AFTER - 1:
            self.tally.wrong.append(f"{method.full_name} hangs, case {number}")
        with self._lock:
            self.tally.outcomes[method.name, status] += 1

    def _call(
        self, method: MethodDescriptor, maker: Maker, chance: random.Random, timeout: float, metadata: tuple[tuple[str, str], ...]
    ) -> None:
        path = f"/{method.containing_service.full_name}/{method.name}"
        decode = GetMessageClass(method.output_type).FromString
        if method.client_streaming:
            sent = [maker.sent(method) for _ in range(chance.choice((0, 1, 2, 5)))]
            stream = self._channel.stream_stream(path, None, decode)(iter(sent), timeout=timeout, metadata=metadata)
        elif method.server_streaming:
            stream = self._channel.unary_stream(path, None, decode)(maker.sent(method), timeout=timeout, metadata=metadata)
        else:
            self._channel.unary_unary(path, None, decode)(maker.sent(method), timeout=timeout, metadata=metadata)
            return
        leaves = chance.random() < 0.2
        for _ in stream:
            if leaves:
                stream.cancel()


def one_model(folder: Path) -> str:
    """Settings of one small instance in a process of its own, with a small cache, so that memory has nothing to grow by."""
    shutil.copytree(Path(service.demo.__file__).parent / "checkpoints" / "shapes-224", folder / "model")
    config = folder / "paliserve.toml"
    config.write_text(f'workers = 1\n[[instances]]\nname = "shapes-224"\nsource = "{folder / "model"}"\nvision_cache_bytes = 4_000_000\n')
    return str(config)


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--cases", type=int, default=10**9)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server("--config", one_model(Path(folder)))
        try:
            fuzzer = Fuzzer(server, asked.seed)
            cases = iter(range(asked.first, asked.first + asked.cases))
            tally = fuzzer.run(cases, time.monotonic() + asked.seconds, warm=1000)
            alive = server.client.get("/readyz").status_code == 200 and server.process.poll() is None
            told = [line for line in server.log if "unforeseen" in line or "Traceback" in line]
        finally:
            server.close()
    print(tally.table())
    print(f"{tally.cases} cases, seed {asked.seed}; resident memory {tally.first_resident / 1e6:.0f} -> {tally.last_resident / 1e6:.0f} MB")
    print(*tally.wrong[:20], *told[:5], sep="\n")
    return int(bool(tally.wrong or told or not alive))


if __name__ == "__main__":
    sys.exit(main())
