"""What bodies may do: lie about their length, be huge, be deep, be nonsense. None gets more than a problem document."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.transports.offers import OFFERS
from service.transports.rest.bodies import MOST_VALUES
from service.transports.rest.middleware import MOST_DRAINED
from tests.transports.rest.service_fake import IMAGE, IMAGE_TEXT, MAX_IMAGE_BYTES, OWN_FIELDS, Rest, fields_of, problem

BOUNDARY = "multipart/form-data; boundary=edge"
MOST_JSON = 2 * MAX_IMAGE_BYTES * 4 // 3 + 1_000_000
MOST_FORM = MAX_IMAGE_BYTES + 1_000_000


def part(name: str | bytes, value: bytes, file: bool = False) -> bytes:
    name = name.encode() if isinstance(name, str) else name
    return b'--edge\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (name, b'; filename="x"' if file else b"", value)


def multipart(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--edge--\r\n"


PICTURE = part("image", IMAGE, file=True)


def with_image(rest_of_it: str) -> bytes:
    return f'{{"image": "{IMAGE_TEXT}", {rest_of_it}}}'.encode()


class Endless:
    """A body that never ends, and counts what was taken of it."""

    def __init__(self, start: bytes = b"") -> None:
        self.taken = len(start)
        self._start = start

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._start
        while True:
            self.taken += 10_000
            yield b" " * 10_000


def hand_driven(rest: Rest, headers: dict[str, str], *chunks: bytes) -> tuple[int, int, int]:
    """POST to /v1/read with these very headers, which no client would send: status, chunks taken until then, length of the answer."""

    async def once() -> tuple[int, int, int]:
        taken, needed = 0, 0
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            nonlocal taken
            if taken == len(chunks):
                await asyncio.Event().wait()
            taken += 1
            return {"type": "http.request", "body": chunks[taken - 1], "more_body": taken < len(chunks)}

        async def send(message: Any) -> None:
            nonlocal needed
            needed = needed if sent else taken
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/v1/read", "raw_path": b"/v1/read", "query_string": b"", "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        }  # fmt: skip
        await asyncio.wait_for(rest.application(scope, receive, send), 20)
        return sent[0]["status"], needed, len(sent[1]["body"])

    return asyncio.run(once())


@pytest.mark.parametrize("kind", ["application/json", BOUNDARY])
@pytest.mark.parametrize("length", [str(MOST_JSON + 1), "9" * 30, "9" * 10_000])
def test_threat_23_a_long_body_is_refused_unread(rest: Rest, kind: str, length: str) -> None:
    status, taken, _ = hand_driven(rest, {"content-type": kind, "content-length": length}, b"{}")
    assert (status, taken) == (413, 0)


@pytest.mark.parametrize("length", ["1", "-5", "many", "", "²", "1e9", "0x10"])
def test_threat_23_a_length_that_lies_changes_nothing(rest: Rest, length: str) -> None:
    chunks = [b" " * 100_000] * 30
    status, taken, _ = hand_driven(rest, {"content-type": "application/json", "content-length": length}, *chunks)
    assert (status, taken) == (413, MOST_JSON // 100_000 + 1)
    good = json.dumps({"image": IMAGE_TEXT}).encode()
    assert hand_driven(rest, {"content-type": "application/json", "content-length": length}, good)[0] == 200


def test_threat_23_endless_bodies_are_cut_off(rest: Rest) -> None:
    body = Endless()
    problem(rest.raw("read", aiter(body)), 413, "request_too_large")
    assert body.taken <= MOST_JSON + MOST_DRAINED + 20_000
    body = Endless(b'--edge\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n')
    problem(rest.raw("read", aiter(body), BOUNDARY), 413, "image_too_large")
    assert body.taken <= MOST_FORM + MOST_DRAINED + 20_000
    assert not rest.fake.calls


def test_threat_10_the_largest_image_and_one_byte_more(rest: Rest) -> None:
    for more, status in ((0, 200), (1, 413), (2, 413), (3, 413), (1000, 413)):
        image = bytes(MAX_IMAGE_BYTES + more)
        for response in (rest.form("read", image=image), rest.json("read", {"image": base64.b64encode(image).decode()})):
            assert response.status_code == status, more
            assert status == 200 or problem(response, 413, "image_too_large")


def test_several_images_have_room_beside_one_another(rest: Rest) -> None:
    file = part("images", bytes(MAX_IMAGE_BYTES * 3 // 4), file=True)
    assert rest.raw("read", multipart(file, file), BOUNDARY).status_code == 200
    assert [len(each) for each in rest.fake.calls[0][2].further] == [MAX_IMAGE_BYTES * 3 // 4]


def test_a_large_image_is_decoded(rest: Rest) -> None:
    from service.transports.rest.application import create_application

    rest.application = create_application(rest.service, rest.metrics, 1_000_000)
    image = bytes(range(256)) * 2000
    assert rest.json("read", {"image": base64.b64encode(image).decode()}).status_code == 200
    assert rest.form("read", image=image).status_code == 200
    assert rest.fake.calls[0][1] == rest.fake.calls[1][1] == image


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ([PICTURE, *(part(f"f{number}", b"x") for number in range(65))], 400, "invalid_request"),
        ([PICTURE] * 17, 400, "invalid_request"),
        ([PICTURE, PICTURE], 422, "invalid_request"),
        ([PICTURE, part("images", IMAGE, file=True)], 422, "invalid_request"),
        ([part("images", IMAGE, file=True), part("images", b"x")], 422, "invalid_request"),
        ([PICTURE, part("other", b"x", file=True)], 422, "invalid_request"),
        ([PICTURE, part("image", b"x")], 422, "invalid_request"),
        ([part("image", b"x"), PICTURE], 422, "invalid_request"),
        ([part("image", IMAGE)], 422, "invalid_request"),
        ([part("picture", IMAGE, file=True)], 422, "invalid_request"),
        ([PICTURE, part("model", b"x" * 64_001)], 400, "invalid_request"),
        ([PICTURE, part("model", b"x" * 300)], 422, "invalid_request"),
        ([PICTURE, part("model", b"a"), part("model", b"b")], 422, "invalid_request"),
        ([PICTURE, part("x" * 3000, b"a"), part("x" * 3000, b"b")], 422, "invalid_request"),
        ([PICTURE, part("x" * 50_000, b"a")], 400, "invalid_request"),
        ([PICTURE, part(b"\xff\xfe", b"\xff")], 422, "invalid_request"),
        ([PICTURE, part("", b"x")], 422, "invalid_request"),
        ([PICTURE, part("box", b'{"\\ud800": 1}')], 422, "invalid_request"),
        ([b"--edge\r\nX: y\r\n\r\nz\r\n"], 400, "invalid_request"),
        ([b"no boundary at all"], 400, "invalid_request"),
        ([], 422, "invalid_request"),
    ],
)
def test_threat_24_forms_that_are_refused(rest: Rest, parts: list[bytes], status: int, code: str) -> None:
    problem(rest.raw("read", multipart(*parts), BOUNDARY), status, code)
    assert not rest.fake.calls


def test_threat_24_a_form_cut_short(rest: Rest) -> None:
    whole = multipart(PICTURE, part("seed", b"5"))
    for length in range(len(whole) - len("--edge--\r\n")):
        assert rest.raw("read", whole[:length], BOUNDARY).status_code in (400, 422), length
    assert not rest.fake.calls
    assert rest.raw("read", whole, BOUNDARY).status_code == 200


@pytest.mark.parametrize(
    "charset",
    [
        "utf-8",
        "latin-1",
        "utf-16",
        "utf-7",
        "hex",
        "zlib",
        "rot13",
        "idna",
        "punycode",
        "undefined",
        "unicode_escape",
        "no-such",
        "\x00",
        "",
    ],
)
def test_no_charset_of_a_form_fails_inside(rest: Rest, charset: str) -> None:
    for name, value in ((b"model", b"abc"), (b"model", b"\\ud800 \xff"), (b"\\ud800\xff", b"\\ud800"), (b"box", b'{"\\ud800": 1}')):
        for parts in (
            [PICTURE, part(name, value)],
            [PICTURE, part(name, value), part(name, value)],
            [PICTURE, part(name, value, file=True)],
        ):
            kind = f"multipart/form-data; charset={charset}; boundary=edge"
            assert hand_driven(rest, {"content-type": kind}, multipart(*parts))[0] in (200, 400, 415, 422)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON ;charset=UTF-8", 'application/json;charset="utf-8"'])
def test_parameters_of_json_are_fine(rest: Rest, kind: str) -> None:
    assert rest.raw("caption", with_image('"language": "en"'), kind).status_code == 200


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/jsonp", "application/x-www-form-urlencoded", "application", ";", "multipart/mixed"]
)
def test_other_content_types(rest: Rest, kind: str) -> None:
    body = problem(rest.raw("read", with_image('"seed": 1'), kind), 415, "unsupported_media_type")
    assert "application/json" in body["detail"]
    assert "multipart/form-data" in body["detail"]


def test_no_content_type(rest: Rest) -> None:
    problem(rest.call("POST", "/v1/read", content=with_image('"seed": 1')), 415, "unsupported_media_type")


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "x" * 3000])
def test_threat_24_boundaries_that_are_none(rest: Rest, kind: str) -> None:
    problem(rest.raw("read", multipart(PICTURE), kind), 400, "invalid_request")


@pytest.mark.parametrize("kind", ["application/json", BOUNDARY])
def test_an_empty_body(rest: Rest, kind: str) -> None:
    response = rest.raw("read", b"", kind)
    assert response.status_code in (400, 422)
    problem(response, response.status_code, "invalid_request")


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"[" * 200_000, 400),
        (b"[" * 200_000 + b"]" * 200_000, 400),
        (b'{"":' * 200_000 + b"1" + b"}" * 200_000, 400),
        (with_image('"seed": ' + "9" * 100_000), 400),
        (with_image('"temperature": 1e400'), 400),
        (with_image('"temperature": NaN'), 400),
        (with_image('"temperature": -Infinity'), 400),
        (with_image('"model": "\\ud800"'), 400),
        (with_image('"\\udfff": 1'), 400),
        (b'{"image": "\xff"}', 400),
        (b"\xef\xbb\xbf{}", 400),
        (b"{} {}", 400),
        (b"{'image': 1}", 400),
        (b"\x00", 400),
        (b"null", 422),
        (b"[]", 422),
        (b'"text"', 422),
        (b"5", 422),
        (b"{}", 422),
    ],
)
def test_threat_27_json_that_is_refused(rest: Rest, content: bytes, status: int) -> None:
    response = rest.raw("read", content)
    assert response.status_code in (status, 422), response.text[:300]
    problem(response, response.status_code, "invalid_request")
    assert not rest.fake.calls


@pytest.mark.parametrize("value", ["{}", "[]", "7", '"a"', '{"a":[1,[2]]}'])
def test_threat_27_wide_json_is_refused_before_it_is_made(rest: Rest, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    wide = with_image(f'"objects": [{",".join([value] * (MOST_VALUES + 1))}]')
    many_keys = with_image(",".join(f'"{number}": {value}' for number in range(MOST_VALUES + 1)))
    monkeypatch.setattr("service.transports.rest.bodies.from_json", None)
    for content in (wide, many_keys):
        body = problem(rest.raw("detect", content), 422, "invalid_request")
        assert str(MOST_VALUES) in body["detail"]


def test_a_prompt_of_marks_is_no_wide_json(rest: Rest) -> None:
    for mark in ",[{":
        assert rest.json("generate", {"prompt": mark * 8192}).status_code == 200
    assert rest.json("detect", {"objects": ["," * 256] * 16}).status_code == 200


def test_the_last_of_duplicate_keys_counts(rest: Rest) -> None:
    assert rest.raw("read", with_image('"seed": 1, "seed": 2')).status_code == 200
    assert rest.fake.calls[0][2].seed == 2


@pytest.mark.parametrize(
    "image", ["", "====", "abc", "ab\ncd", "é", "data:text/plain;base64,AAAA", "data:image/png,AAAA", "file:///etc/passwd"]
)
def test_threat_10_images_that_are_none(rest: Rest, image: str) -> None:
    response = rest.json("read", {"image": image})
    if image:
        assert fields_of(problem(response, 422, "invalid_request")) == ["image"]
    else:
        # The task's decoder refuses what is empty.
        assert response.status_code == 200


@pytest.mark.parametrize("image", ["http://169.254.169.254/", "HTTPS://example.org/x.png"])
def test_urls_that_are_not_allowed(rest: Rest, image: str) -> None:
    problem(rest.json("read", {"image": image}), 403, "image_url_forbidden")


def test_an_image_by_url(rest: Rest) -> None:
    rest.service.at_url = b"from afar"
    assert rest.json("read", {"image": "https://images.example.org/x.png"}).status_code == 200
    assert rest.service.fetched == ["https://images.example.org/x.png"]
    assert rest.fake.calls[0][1] == b"from afar"


def test_prompts_are_never_searched_for_urls(rest: Rest) -> None:
    assert rest.json("generate", {"prompt": "![](https://canary.example/x.png)"}).status_code == 200
    assert not rest.service.fetched


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**25), 10**25) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = sorted({"image", "unknown", *(name for offer in OFFERS.values() for name in offer.request.model_fields)})


def post(rest: Rest, task: str, **arguments: Any) -> httpx.Response:
    response = rest.call("POST", f"/v1/{task}", **arguments)
    assert response.status_code in (200, 400, 403, 413, 422), response.text[:500]
    if response.status_code != 200:
        problem(response, response.status_code, response.json()["code"])
    return response


@settings(max_examples=200, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(task=st.sampled_from(sorted(OWN_FIELDS)), field=st.sampled_from(FIELDS), value=JSON)
def test_threat_27_no_json_fails_inside(rest: Rest, task: str, field: str, value: object) -> None:
    post(rest, task, json={"image": IMAGE_TEXT} | OWN_FIELDS[task] | {field: value})


@settings(max_examples=100, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(task=st.sampled_from(sorted(OWN_FIELDS)), field=st.sampled_from(FIELDS), value=st.text() | JSON.map(json.dumps))
def test_no_form_fails_inside(rest: Rest, task: str, field: str, value: str) -> None:
    post(rest, task, files={"image": ("x.png", IMAGE)}, data={field: value})


@settings(max_examples=100, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300), kind=st.sampled_from(["application/json", BOUNDARY]))
def test_no_bytes_fail_inside(rest: Rest, content: bytes, kind: str) -> None:
    post(rest, "read", content=content, headers={"content-type": kind})
    post(rest, "read", content=b"--edge\r\n" + content, headers={"content-type": kind})
