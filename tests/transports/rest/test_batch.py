"""Several requests in one: each answered as it would be by itself."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from service.errors import InvalidImage, Overloaded
from service.tasks.asks import Options
from tests.transports.rest.service_fake import IMAGE, IMAGE_TEXT, OWN_FIELDS, Rest, fields_of, problem

OTHER, OTHER_TEXT = b"another picture", "YW5vdGhlciBwaWN0dXJl"


def ask(rest: Rest, requests: Any, **fields: Any) -> list[dict[str, Any]]:
    response = rest.call("POST", "/v1/batch", json={"image": IMAGE_TEXT, "requests": requests} | fields)
    assert response.status_code == 200, response.text
    results: list[dict[str, Any]] = response.json()["results"]
    assert len(results) == len(requests)
    for each in results:
        assert set(each) == ({"status", "response"} if each["status"] == 200 else {"status", "error"})
        if "error" in each:
            assert each["error"]["status"] == each["status"]
            assert each["error"]["type"] == f"urn:paliserve:error:{each['error']['code']}"
    return results


def test_every_task_in_one_batch_in_order(rest: Rest) -> None:
    results = ask(rest, [{"task": task} | fields for task, fields in OWN_FIELDS.items()])
    for (task, fields), each in zip(OWN_FIELDS.items(), results, strict=True):
        assert each["response"] == rest.json(task, fields).json() | {"id": each["response"]["id"]}
    assert len({each["response"]["id"] for each in results}) == len(results)


def test_each_is_known_by_its_number(rest: Rest) -> None:
    response = rest.call(
        "POST", "/v1/batch", json={"requests": [{"task": "read", "image": IMAGE_TEXT}, {"task": "read"}]}, headers={"x-request-id": "mine"}
    )
    first, second = response.json()["results"]
    assert first["response"]["id"] == "mine-0"
    assert second["error"]["request_id"] == "mine-1"
    assert response.headers["x-request-id"] == "mine"


def test_a_picture_is_the_batchs_or_ones_own(rest: Rest) -> None:
    ask(rest, [{"task": "read"}, {"task": "read", "image": OTHER_TEXT}, {"task": "caption"}, {"task": "caption", "image": OTHER_TEXT}])
    images = [call[1] for call in rest.fake.calls]
    assert sorted(images) == sorted([IMAGE, IMAGE, OTHER, OTHER])
    # By this the engine knows that they are one picture.
    assert len({id(image) for image in images}) == 2


def test_fields_reach_the_tasks(rest: Rest) -> None:
    ask(rest, [{"task": "answer", "question": "who?", "seed": 5, "temperature": 1, "model": "fake-224", "stream": False}])
    assert rest.fake.calls == [("answer", IMAGE, Options(model="fake-224", seed=5, temperature=1.0), "who?", "en")]


@pytest.mark.parametrize(
    ("bad", "status", "code", "field"),
    [
        ({"task": "detect"}, 422, "invalid_request", "objects"),
        ({"task": "fly"}, 422, "invalid_request", "task"),
        ({"task": ["read"]}, 422, "invalid_request", "task"),
        ({}, 422, "invalid_request", "task"),
        ({"task": "read", "surprise": 1}, 422, "invalid_request", "surprise"),
        ({"task": "read", "stream": True}, 422, "invalid_request", "stream"),
        ({"task": "read", "image": "!"}, 422, "invalid_request", "image"),
        ({"task": "read", "image": 5}, 422, "invalid_request", "image"),
        ({"task": "read", "image": None}, 422, "invalid_request", "image"),
        ({"task": "read", "image": "https://example.org/x.png"}, 403, "image_url_forbidden", None),
        ({"task": "read", "image": "A" * 4100}, 413, "image_too_large", None),
        ("read", 422, "invalid_request", None),
        (None, 422, "invalid_request", None),
    ],
)
def test_one_bad_request_is_its_own_error(rest: Rest, bad: object, status: int, code: str, field: str | None) -> None:
    good, wrong, also_good = ask(rest, [{"task": "read"}, bad, {"task": "caption"}])
    assert (good["status"], also_good["status"]) == (200, 200)
    assert (wrong["status"], wrong["error"]["code"]) == (status, code)
    assert (fields_of(wrong["error"]) if field else wrong["error"].get("errors")) == ([field] if field else None)


def test_no_picture_anywhere(rest: Rest) -> None:
    (result,) = ask(rest, [{"task": "read"}], image=None)
    assert fields_of(result["error"]) == ["image"]


def test_errors_of_the_tasks(rest: Rest) -> None:
    rest.fake.error = InvalidImage("Not an image.")
    assert [each["error"]["code"] for each in ask(rest, [{"task": "read"}] * 2)] == ["invalid_image"] * 2
    rest.fake.error = Overloaded("Busy.", 100.0)
    (result,) = ask(rest, [{"task": "read"}])
    assert result["status"] == 503
    assert 80 <= result["error"]["retry_after"] <= 120
    rest.fake.error = RuntimeError("the secret")
    (result,) = ask(rest, [{"task": "read"}])
    assert (result["status"], result["error"]["code"]) == (500, "internal")
    assert "secret" not in json.dumps(result)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "requests"),
        ({"requests": []}, "requests"),
        ({"requests": [{"task": "read"}] * 65}, "requests"),
        ({"requests": {"task": "read"}}, "requests"),
        ({"requests": [{"task": "read"}], "image": 5}, "image"),
        ({"requests": [{"task": "read"}], "stream": True}, "stream"),
        ({"requests": [{"task": "read"}], "model": "x"}, "model"),
    ],
)
def test_what_is_no_batch(rest: Rest, body: dict[str, Any], field: str) -> None:
    assert fields_of(problem(rest.call("POST", "/v1/batch", json=body), 422, "invalid_request")) == [field]
    assert not rest.fake.calls


def test_64_requests_fit(rest: Rest) -> None:
    assert {each["status"] for each in ask(rest, [{"task": "read"}] * 64)} == {200}


def test_limits_of_the_body_hold(rest: Rest) -> None:
    problem(
        rest.call("POST", "/v1/batch", content=b" " * 1_100_000, headers={"content-type": "application/json"}), 413, "request_too_large"
    )
    problem(rest.call("POST", "/v1/batch", content=b"[", headers={"content-type": "application/json"}), 400, "invalid_request")
    problem(rest.call("POST", "/v1/batch", content=b"[]", headers={"content-type": "application/json"}), 422, "invalid_request")
    problem(rest.call("POST", "/v1/batch", files={"image": IMAGE}), 415, "unsupported_media_type")


def test_each_is_counted_by_its_task(rest: Rest) -> None:
    ask(rest, [{"task": "read"}, {"task": "detect"}, {"task": "read"}, {}])
    assert set(rest.counted()) == {
        'paliserve_requests_total{code="ok",model="fake-224",task="read",transport="rest"} 2.0',
        'paliserve_requests_total{code="invalid_request",model="_other",task="detect",transport="rest"} 1.0',
        'paliserve_requests_total{code="invalid_request",model="_other",task="batch",transport="rest"} 1.0',
    }


def test_a_client_that_leaves_cancels_all(rest: Rest) -> None:
    rest.fake.hold = True

    async def once() -> None:
        messages = [{"type": "http.request", "body": json.dumps({"image": IMAGE_TEXT, "requests": [{"task": "read"}] * 3}).encode()}]

        async def receive() -> Mapping[str, Any]:
            if messages:
                return messages.pop()
            await rest.fake.entered.wait()
            return {"type": "http.disconnect"}

        async def send(message: Mapping[str, Any]) -> None:
            raise AssertionError("nobody is there")

        scope = {
            "type": "http", "method": "POST", "path": "/v1/batch", "raw_path": b"/", "query_string": b"", "root_path": "",
            "headers": [(b"content-type", b"application/json")],
        }  # fmt: skip
        await asyncio.wait_for(rest.application(scope, receive, send), 20)  # type: ignore[arg-type]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(once())
    assert rest.fake.cancelled
    assert rest.counted() == ['paliserve_requests_total{code="cancelled",model="_other",task="read",transport="rest"} 3.0']
