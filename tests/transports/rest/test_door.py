"""A full service refuses before it reads."""

import logging

import pytest

from tests.transports.rest.service_fake import OWN_FIELDS, Rest, problem

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


def test_a_large_body_is_refused_too_and_its_connection_closed(full: Rest) -> None:
    response = full.raw("caption", b"x" * 1_000_001)
    problem(response, 503, "overloaded")
    assert response.headers["connection"] == "close"


def test_what_needs_no_room_is_answered(full: Rest) -> None:
    assert full.get("/v1/models").status_code == full.get("/readyz").status_code == 200


@pytest.mark.parametrize("path", ["/v1/batch", "/v2/models/fake-224/infer", "/v2/models/fake-224/versions/1/infer"])
def test_everything_that_is_asked_of_a_model_needs_room(full: Rest, path: str) -> None:
    problem(full.call("POST", path, json={}), 503, "overloaded")


def test_who_is_inside_leaves_again(rest: Rest) -> None:
    rest.fake.error = RuntimeError("unforeseen")
    for content in (b"no JSON", b'{"image": 1}'):
        rest.raw("caption", content)
    rest.json("caption")
    assert rest.service.inside == 0


def test_one_line_tells_of_many_refusals(full: Rest, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(20):
            full.json("read")
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("service.")]
    assert lines[0] == "turned away 1 requests: overloaded"
    assert len(lines) < 20
