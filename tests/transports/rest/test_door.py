"""A full service refuses before it reads."""

import logging

import pytest

from tests.transports.rest.service_fake import IMAGE_TEXT, OWN_FIELDS, Rest, problem

CHAT = {"messages": [{"role": "user", "content": "caption en"}]}


@pytest.fixture
def full(rest: Rest) -> Rest:
    rest.service.full = True
    return rest


@pytest.mark.parametrize("task", OWN_FIELDS)
def test_threat_49_a_full_service_refuses_what_it_has_not_read(full: Rest, task: str) -> None:
    response = full.raw(task, b"no JSON at all, which nobody looks at", **{"x-request-id": "mine"})
    body = problem(response, 503, "overloaded")
    assert body["request_id"] == "mine"
    assert 2 <= int(response.headers["retry-after"]) <= 4
    assert "connection" not in response.headers
    assert full.counted() == [f'paliserve_requests_total{{code="overloaded",model="_other",task="{task}",transport="rest"}} 1.0']


def test_openai_clients_are_refused_in_their_form(full: Rest) -> None:
    body = problem(full.call("POST", "/v1/chat/completions", json=CHAT), 503, "overloaded")
    assert body["error"]["type"] == "server_error"


def test_a_large_body_is_refused_by_its_route(full: Rest) -> None:
    response = full.raw("caption", b"x" * 1_000_001)
    problem(response, 503, "overloaded")
    assert response.headers["connection"] == "close"


def test_what_needs_no_place_is_answered(full: Rest) -> None:
    assert full.get("/v1/models").status_code == full.get("/readyz").status_code == 200
    # A batch's requests are refused one by one, by their engine.
    assert full.call("POST", "/v1/batch", json={"image": IMAGE_TEXT, "requests": [{"task": "read"}]}).status_code == 200


def test_one_line_tells_of_many_refusals(full: Rest, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(20):
            full.json("read")
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("service.")]
    assert lines[0] == "turned away 1 requests: overloaded"
    assert len(lines) < 20
