"""A few hundred random and spoilt messages for every method of gRPC; ``make fuzz-grpc`` sends them for minutes."""

import random
import time
from collections.abc import Iterator

import pytest

from service.transports.grpc.generated import paligemma_pb2 as pb
from tests.end_to_end.conftest import Server
from tests.end_to_end.test_grpc import Client
from tests.grpc_fuzz import Fuzzer, Maker, methods, one_model

CASES, WARM = 400, 150
GROWTH = 100_000_000
"""Bytes that allocators, caches and garbage not yet collected may still take behind the first cases."""


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own, whose log and memory can be looked at."""
    running = Server("--config", one_model(tmp_path_factory.mktemp("fuzzed")))
    yield running
    running.close()


def test_threat_28_and_35_whatever_is_sent_gets_an_answer_or_a_clear_refusal(fuzzed: Server, sample: bytes) -> None:
    seed = random.randrange(2**32)
    tally = Fuzzer(fuzzed, seed).run(iter(range(CASES)), time.monotonic() + 200, WARM)
    assert tally.cases == CASES, f"seed {seed}"
    assert not tally.wrong, f"seed {seed}"
    assert {method for method, _ in tally.outcomes} == {each.name for each in methods()}
    assert tally.last_resident - tally.first_resident < GROWTH, f"seed {seed}"
    assert Client(fuzzed).stub.Read(pb.ReadRequest(image=sample)).text_read == "GIFT"
    assert fuzzed.client.get("/readyz").status_code == 200
    assert not [line for line in fuzzed.log if "unforeseen" in line or "Traceback" in line], f"seed {seed}"


def test_a_case_is_made_of_its_number_alone() -> None:
    for method in methods():
        assert Maker(random.Random("7-1")).sent(method) == Maker(random.Random("7-1")).sent(method)
