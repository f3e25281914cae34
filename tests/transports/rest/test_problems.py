"""Every error as a problem document."""

import json
from collections.abc import Iterator

import pytest

from service import errors
from service.tasks.results import Box, Detection
from service.transports.rest import problems
from service.transports.rest.refusals import MisdirectedRequest, SlowRequest, UnsupportedConversation, UnsupportedParameter
from tests.transports.rest.service_fake import BOX, Rest, fields_of, problem, result

EXPECTED = {
    errors.MalformedBody: (400, "invalid_request"),
    errors.InvalidRequest: (422, "invalid_request"),
    errors.InvalidImage: (422, "invalid_image"),
    errors.UnsupportedMediaType: (415, "unsupported_media_type"),
    errors.ImageTooLarge: (413, "image_too_large"),
    errors.RequestTooLarge: (413, "request_too_large"),
    errors.PromptTooLong: (422, "prompt_too_long"),
    errors.ImageUrlForbidden: (403, "image_url_forbidden"),
    errors.ImageUrlFailed: (422, "image_url_failed"),
    errors.Unauthenticated: (401, "unauthenticated"),
    errors.PermissionDenied: (403, "permission_denied"),
    errors.ModelNotFound: (404, "model_not_found"),
    errors.AdapterNotFound: (404, "adapter_not_found"),
    errors.RateLimited: (429, "rate_limited"),
    errors.Overloaded: (503, "overloaded"),
    errors.Draining: (503, "draining"),
    errors.ModelNotReady: (503, "model_not_ready"),
    errors.DeadlineExceeded: (504, "deadline_exceeded"),
    errors.GenerationFailed: (500, "internal"),
}
"""As the interface contract has it."""


def made(kind: type[errors.PaliServeError]) -> errors.PaliServeError:
    return kind("What was wrong.", 7.0) if kind in (errors.Overloaded, errors.RateLimited) else kind("What was wrong.")


def descendants(kind: type[errors.PaliServeError]) -> Iterator[type[errors.PaliServeError]]:
    for each in kind.__subclasses__():
        yield each
        yield from descendants(each)


def test_the_table_knows_every_error() -> None:
    known = {kind for kind in descendants(errors.PaliServeError) if kind.__module__ == errors.__name__}
    assert known == set(EXPECTED)
    assert known | {SlowRequest, UnsupportedConversation, UnsupportedParameter, MisdirectedRequest} == set(problems.TABLE)


@pytest.mark.parametrize("kind", EXPECTED, ids=lambda kind: kind.__name__)
def test_every_error_through_the_application(rest: Rest, kind: type[errors.PaliServeError]) -> None:
    rest.fake.error = made(kind)
    status, code = EXPECTED[kind]
    response = rest.json("caption")
    body = problem(response, status, code)
    assert body["detail"] == "What was wrong."
    assert set(body) == {"type", "title", "status", "detail", "code", "request_id"}
    assert ("retry-after" in response.headers) == (status in (429, 503))
    if status == 503:
        assert 1 <= int(response.headers["retry-after"]) <= 9
    assert f'code="{code}",model="_other",task="caption",transport="rest"' in rest.counted()[0]


def test_retry_after_is_jittered(rest: Rest) -> None:
    rest.fake.error = errors.Overloaded("Busy.", 100.0)
    waits = {int(rest.json("read").headers["retry-after"]) for _ in range(20)}
    assert len(waits) > 1
    assert min(waits) >= 80
    assert max(waits) <= 120


def test_an_error_with_fields_names_them(rest: Rest) -> None:
    rest.fake.error = errors.InvalidRequest("Two things.", (errors.FieldProblem("objects.0", "too long"), errors.FieldProblem("x", "y")))
    body = problem(rest.json("detect"), 422, "invalid_request")
    assert body["errors"] == [{"field": "objects.0", "problem": "too long"}, {"field": "x", "problem": "y"}]


@pytest.mark.parametrize("error", [RuntimeError("the secret"), KeyError("the secret"), TimeoutError("the secret"), OSError("the secret")])
def test_threat_59_the_unforeseen_tells_nothing(rest: Rest, error: Exception) -> None:
    rest.fake.error = error
    response = rest.json("read")
    problem(response, 500, "internal")
    assert "secret" not in response.text
    assert type(error).__name__ not in response.text
    assert 'code="internal"' in rest.counted()[0]


def test_what_the_service_got_wrong_is_not_the_callers_fault(rest: Rest) -> None:
    rest.fake.results["detect"] = result("detect", detections=(Detection("cat", Box(1, 2, 3, 4), 1.5),))
    problem(rest.json("detect"), 500, "internal")


def test_an_answer_that_cannot_be_written_is_internal(rest: Rest) -> None:
    rest.fake.results["read"] = result("read", text="half a character: \ud83d")
    problem(rest.json("read"), 500, "internal")


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        ("read", {"max_tokens": "MY-SECRET"}),
        ("read", {"resolution": "MY-SECRET"}),
        ("read", {"seed": {"a": "MY-SECRET"}}),
        ("read", {"stream": "MY-SECRET"}),
        ("caption", {"style": "MY-SECRET"}),
        ("caption", {"language": "MY-SECRET" * 10}),
        ("detect", {"objects": ["MY-SECRET" * 100]}),
        ("segment", {"mask_format": "MY-SECRET"}),
        ("caption-region", {"box": "MY-SECRET"}),
        ("caption-region", {"box": BOX | {"x_min": "MY-SECRET"}}),
        ("generate", {"prompt": ["MY-SECRET"]}),
        ("read", {"image": "MY-SECRET!"}),
        ("read", {"image": {"url": "MY-SECRET"}}),
    ],
)
def test_validation_never_echoes_the_input(rest: Rest, task: str, fields: dict[str, object]) -> None:
    for response in (
        rest.json(task, fields),
        rest.form(task, {name: json.dumps(each) for name, each in fields.items() if name != "image"}),
    ):
        assert "MY-SECRET" not in response.text
    problem(rest.json(task, fields), 422, "invalid_request")


def test_the_style_says_what_is_right(rest: Rest) -> None:
    body = problem(rest.json("caption", {"style": "loud"}), 422, "invalid_request")
    assert body["errors"] == [{"field": "style", "problem": "one of standard, short, detailed is needed"}]


def test_many_problems_stay_a_short_answer(rest: Rest) -> None:
    body = problem(rest.json("read", {f"{number}" * 200: 1 for number in range(100)}), 422, "invalid_request")
    assert len(body["errors"]) == 20
    assert max(len(name) for name in fields_of(body)) <= 100


def test_no_such_path_and_no_such_method(rest: Rest) -> None:
    assert "/docs" in problem(rest.get("/nowhere"), 404, "not_found")["detail"]
    response = rest.get("/v1/caption")
    problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"
    problem(rest.call("BREW", "/v1/caption"), 405, "method_not_allowed")
    assert rest.counted() == []


def test_an_unknown_model_carries_openais_error(rest: Rest) -> None:
    body = problem(rest.get("/v1/models/unknown"), 404, "model_not_found")
    assert body["error"] == {"message": body["detail"], "type": "invalid_request_error", "param": None, "code": "model_not_found"}
    assert "fake-224" in body["detail"]
    assert "error" in problem(rest.call("PUT", "/v1/models"), 405, "method_not_allowed")
    assert "error" not in problem(rest.json("read", {"seed": "x"}), 422, "invalid_request")
