"""Tensors of bytes and their framing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequest
from service.transports.inference.tensors import MOST_ELEMENTS, Tensor, check, pack, unpack

ELEMENTS = st.lists(st.binary(max_size=300), max_size=MOST_ELEMENTS)


@given(ELEMENTS)
def test_what_is_packed_is_unpacked(elements: list[bytes]) -> None:
    assert unpack("image", pack(elements)) == elements


def test_the_framing_is_the_protocols() -> None:
    assert pack([b"ab", b""]) == b"\x02\x00\x00\x00ab\x00\x00\x00\x00"


@given(st.binary(max_size=100))
def test_any_bytes_are_elements_or_refused(packed: bytes) -> None:
    try:
        elements = unpack("image", packed)
    except InvalidRequest:
        return
    assert pack(elements) == packed


@pytest.mark.parametrize("packed", [b"\x01", b"\x01\x00\x00\x00", b"\xff\xff\xff\xffa", b"\x00\x00\x00\x00" * 65])
def test_bytes_that_end_early_or_never(packed: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"inputs\.image: "):
        unpack("image", packed)


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_a_tensor(shape: tuple[int, ...]) -> None:
    assert check("prompt", "BYTES", list(shape), [b"a", b"b"]) == Tensor("prompt", shape, (b"a", b"b"))


@pytest.mark.parametrize(
    ("datatype", "shape", "words"),
    [
        ("FP32", [2], "datatype"),
        ("BYTES", [3], "says 3 elements, and there are 2"),
        ("BYTES", [], "shape must be"),
        ("BYTES", [0], "shape must be"),
        ("BYTES", [-2], "shape must be"),
        ("BYTES", [65], "shape must be"),
        ("BYTES", [1, 2], "shape must be"),
        ("BYTES", [2, 1, 1], "shape must be"),
        ("BYTES", [2**62, 2**62], "shape must be"),
    ],
)
def test_parts_that_do_not_fit(datatype: str, shape: list[int], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        check("prompt", datatype, shape, [b"a", b"b"])
