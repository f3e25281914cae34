"""Forms by their grammar: what stands between and around the parts."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.transports.rest.forms import LARGEST_FIELD, MOST_FIELDS
from tests.transports.rest.service_fake import IMAGE, Rest, problem

KIND = "multipart/form-data; boundary=edge"
HEAD = b'--edge\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n'
WHOLE = HEAD + b"\r\n" + IMAGE + b"\r\n--edge--\r\n"
FIELD = b'--edge\r\nContent-Disposition: form-data; name="f%d"\r\n\r\nx\r\n'

TOO_MUCH = {
    "a preamble": b"x" * 500_000 + b"\r\n" + WHOLE,
    "a part's header": HEAD + b"X: " + b"y" * 500_000 + b"\r\n\r\n" + IMAGE + b"\r\n--edge--\r\n",
    "a part's header's name": HEAD + b"Y" * 500_000 + b": x\r\n\r\n" + IMAGE + b"\r\n--edge--\r\n",
    "many headers of a part": HEAD + b"X: y\r\n" * 50_000 + b"\r\n" + IMAGE + b"\r\n--edge--\r\n",
    "a header that never ends": HEAD + b"X: " + b"y" * 900_000,
    "a name": HEAD.replace(b'"image"', b'"' + b"n" * 500_000 + b'"') + b"\r\n--edge--\r\n",
    "parameters": HEAD.rstrip() + b"; a=b" * 100_000 + b"\r\n\r\n" + IMAGE + b"\r\n--edge--\r\n",
    "many parts": b"".join(FIELD % number for number in range(10_000)) + WHOLE,
    "many empty parts": b"--edge\r\n\r\n\r\n" * 50_000 + WHOLE,
    "a field": b'--edge\r\nContent-Disposition: form-data; name="model"\r\n\r\n' + b"x" * (LARGEST_FIELD + 1) + b"\r\n" + WHOLE,
    "boundaries that are almost": HEAD + b"\r\n" + b"\r\n--edg" * 100_000 + b"\r\n--edge--\r\n",
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_threat_24_whatever_there_is_too_much_of_costs_little_and_is_refused(rest: Rest, name: str) -> None:
    began = time.process_time()
    response = rest.raw("read", TOO_MUCH[name], KIND)
    assert time.process_time() - began < 5.0
    assert response.status_code in (400, 413, 422), response.text
    problem(response, response.status_code, response.json()["code"])
    assert not rest.fake.calls
    assert rest.budget.held == 0


def test_threat_24_as_many_fields_as_may_be(rest: Rest) -> None:
    body = problem(rest.raw("read", b"".join(FIELD % number for number in range(MOST_FIELDS)) + WHOLE, KIND), 422, "invalid_request")
    assert body["errors"][0]["field"] == "f0"
    problem(rest.raw("read", b"".join(FIELD % number for number in range(MOST_FIELDS + 1)) + WHOLE, KIND), 400, "invalid_request")


@pytest.mark.parametrize("boundary", ["x" * 257, "x" * 60_000, "", '"', "é", "a b", "a\tb"])
def test_threat_24_other_boundaries(rest: Rest, boundary: str) -> None:
    response = rest.call("POST", "/v1/read", content=WHOLE, headers={"content-type": f"multipart/form-data; boundary={boundary}".encode()})
    problem(response, 400, "invalid_request")


PIECES = st.sampled_from(
    rb"--edge|--edge--|--|~|#|$|edge|X: y|: |x|;|\|5|name=|Content-Disposition: form-data; name='image'; filename='x'"
    rb"|Content-Disposition: form-data; name='seed'|Content-Disposition:|~~".translate(bytes.maketrans(b"'", b'"')).split(b"|")
)
"""Of which forms are made; ~, # and $ stand for the ends of lines."""


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(PIECES, max_size=40), whole=st.booleans())
def test_threat_24_any_order_of_what_forms_are_made_of(rest: Rest, pieces: list[bytes], whole: bool) -> None:
    body = b"".join(pieces).replace(b"~", b"\r\n").replace(b"#", b"\n").replace(b"$", b"\r")
    response = rest.raw("read", body + (b"\r\n" + WHOLE if whole else b""), KIND)
    assert response.status_code in (200, 400, 422), response.text
    if response.status_code != 200:
        problem(response, response.status_code, "invalid_request")
