"""Who gets to the routes over HTTP, how often, and what is there on which port."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.access.gate import Gate
from service.tasks.callers import caller
from service.transports.rest.application import split_by_port
from service.transports.rest.guard import OPEN, PROBES, Access, Offered
from service.transports.rest.playground.files import FILES
from tests.transports.rest.service_fake import IMAGE_TEXT, KEYS, OWN_FIELDS, Rest, problem

PAGES = {"/", "/docs", "/openapi.json", *(f"/playground/{name}" for name in FILES)}
NAMED = PAGES | {"/metrics", "/livez", "/readyz", "/startupz", "/v2/health/live", "/v2/health/ready"}
"""All that needs no key."""

SPELLINGS = (
    "//v1/caption /v1%2fcaption /v1/caption/ /V1/caption /v1/./caption /livez/../v1/caption /livez%2f..%2fv1/caption "
    "/livez/ //livez /LIVEZ /livez;/v1/caption /v1/caption%3f/livez /redoc /docs/oauth2-redirect /static/x /%00"
).split()
NAMES = ["..", "%2e%2e", "..%2f..%2fetc", "%2fetc%2fpasswd", "fake-224%00", "C:%5cmodels", "fake-224/../other", "a" * 2000]


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}'s"}


@pytest.fixture
def keyed(rest: Rest) -> Rest:
    """Nobody is let in without a key; no time passes."""
    rest.serve(Access(Gate(lambda: KEYS, anonymous=False, lenient=False, clock=lambda: 0.0)))
    return rest


def operations(rest: Rest) -> list[tuple[str, str]]:
    """Every method of every path, those outside of the document included."""
    found = [(method.upper(), path) for path, each in rest.application.openapi()["paths"].items() for method in each]
    return [*found, *(("GET", path) for path in PAGES)]


def test_threat_53_every_route_needs_a_key_but_a_named_few(keyed: Rest) -> None:
    assert OPEN == NAMED
    seen = set()
    for method, path in operations(keyed):
        response = keyed.call(method, path.replace("{", "").replace("}", ""))
        if path in NAMED:
            seen.add(path)
            assert response.status_code == 200, path
        else:
            problem(response, 401, "unauthenticated")
            assert response.headers["www-authenticate"] == "Bearer"
    assert seen == NAMED
    assert len(operations(keyed)) > 30
    assert not keyed.fake.calls


@pytest.mark.parametrize("path", SPELLINGS)
@pytest.mark.parametrize("method", ["POST", "GET", "HEAD", "PUT", "ODD"])
def test_threat_53_no_spelling_of_a_path_gets_around_it(keyed: Rest, method: str, path: str) -> None:
    response = keyed.call(method, f"http://test{path}", headers={"host": "test/livez?"})
    assert response.status_code == 401
    assert not keyed.fake.calls


@pytest.mark.parametrize("host", ["evil.example", "test/livez", "test/livez?x=", "test#", "[::1", ""])
def test_threat_53_no_host_gets_around_it(keyed: Rest, host: str) -> None:
    problem(keyed.json("caption", headers={"host": host}), 401, "unauthenticated")
    assert not keyed.fake.calls


def test_the_key_is_asked_for_before_the_body(keyed: Rest) -> None:
    read = []

    async def body() -> Any:
        read.append(True)
        yield b"{"

    problem(keyed.raw("caption", body()), 401, "unauthenticated")
    problem(keyed.call("POST", "/v1/caption", content=b"{", headers={"content-type": "no/such"}), 401, "unauthenticated")
    assert keyed.json("caption", headers=bearer("user")).status_code == 200
    assert "error" in keyed.call("POST", "/v1/chat/completions").json()
    assert isinstance(keyed.call("POST", "/v2/models/x/infer").json()["error"], str)


def test_threat_55_users_change_nothing(keyed: Rest) -> None:
    for what in ("load", "unload", "adapters/a/load", "adapters/a/unload"):
        path = f"/v1/models/fake-224/{what}"
        problem(keyed.call("POST", path), 401, "unauthenticated")
        problem(keyed.call("POST", path, headers=bearer("user")), 403, "permission_denied")
    assert keyed.service.state == "warm"
    assert keyed.call("POST", "/v1/models/fake-224/unload", headers=bearer("admin")).json()["state"] == "cold"


@pytest.mark.parametrize("name", NAMES)
def test_threat_55_only_configured_names_are_loaded(keyed: Rest, name: str) -> None:
    for what in ("load", "unload"):
        response = keyed.call("POST", f"/v1/models/{name}/{what}", headers=bearer("admin"))
        assert response.status_code in (404, 405), response.text
    assert keyed.service.state == "warm"


def test_the_work_knows_whose_it_is(keyed: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    admitted: Callable[..., Any] = keyed.fake._admitted

    async def tell(*arguments: Any) -> Any:
        told.append(caller.get())
        return await admitted(*arguments)

    monkeypatch.setattr(keyed.fake, "_admitted", tell)
    for name in ("user", "admin"):
        keyed.json("caption", headers=bearer(name))
        keyed.json("caption", {"stream": True}, headers=bearer(name))
    assert told == ["user", "user", "admin", "admin"]
    assert caller.get() == ""


def test_a_quota_is_told_with_the_time_to_wait(keyed: Rest) -> None:
    for _ in range(3):
        assert keyed.json("caption", headers=bearer("slow")).status_code == 200
    response = keyed.json("caption", headers=bearer("slow"))
    problem(response, 429, "rate_limited")
    # A third of a minute, and never less.
    assert 20 <= int(response.headers["retry-after"]) <= 25
    assert keyed.json("caption", headers=bearer("user")).status_code == 200


def test_each_request_of_a_batch_counts(keyed: Rest) -> None:
    asked = {"image": IMAGE_TEXT, "requests": [{"task": "caption"}] * 5}
    results = keyed.call("POST", "/v1/batch", json=asked, headers=bearer("slow")).json()["results"]
    # Two at once; the others are refused, each by itself.
    assert [each["status"] for each in results].count(429) >= 2
    assert {each["status"] for each in results} == {200, 429}
    refused = [each["error"] for each in results if each["status"] == 429]
    assert all(each["code"] == "rate_limited" and each["retry_after"] >= 1 for each in refused)


def test_pictures_count_and_too_many_are_refused_for_good(keyed: Rest) -> None:
    problem(keyed.json("caption", {"image": None, "images": [IMAGE_TEXT] * 5}, headers=bearer("slow")), 403, "permission_denied")
    assert keyed.json("caption", {"image": None, "images": [IMAGE_TEXT] * 4}, headers=bearer("slow")).status_code == 200
    problem(keyed.json("caption", headers=bearer("slow")), 429, "rate_limited")


def test_no_more_at_once_than_allowed(keyed: Rest) -> None:
    keyed.fake.hold = True

    async def ask() -> list[int]:
        transport = httpx.ASGITransport(keyed.application)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=bearer("slow")) as client:
            body = {"image": IMAGE_TEXT} | OWN_FIELDS["caption"]
            first = [asyncio.create_task(client.post("/v1/caption", json=body)) for _ in range(2)]
            await keyed.fake.called(2)
            third = await client.post("/v1/caption", json=body)
            keyed.fake.release()
            return [third.status_code, *[(await each).status_code for each in first], (await client.get("/v1/models")).status_code]

    assert asyncio.run(asyncio.wait_for(ask(), 30)) == [429, 200, 200, 200]


def test_threat_58_a_made_up_address_is_not_another_caller(keyed: Rest) -> None:
    spoofed = ("x-forwarded-for", "x-real-ip", "forwarded", "x-client-ip", "true-client-ip", "cf-connecting-ip", "x-forwarded-host")
    statuses = [
        keyed.json("caption", headers=bearer("slow") | dict.fromkeys(spoofed, f"10.0.0.{number}")).status_code for number in range(6)
    ]
    assert statuses == [200, 200, 200, 429, 429, 429]


def test_refusals_are_counted(keyed: Rest) -> None:
    keyed.json("caption")
    keyed.call("POST", "/v1/models/fake-224/load", headers=bearer("user"))
    for _ in range(5):
        keyed.json("caption", headers=bearer("slow"))
    body = keyed.get("/metrics").text
    for reason, count in (("unauthenticated", 1), ("permission_denied", 1), ("rate_limited", 2)):
        assert f'paliserve_requests_refused_total{{reason="{reason}"}} {count}.0' in body


def test_threat_56_strangers_add_no_series(keyed: Rest) -> None:
    def series() -> set[tuple[str, ...]]:
        families = list(text_string_to_metric_families(keyed.get("/metrics").text))
        return {
            (each.name, *(f"{key}={value}" for key, value in sorted(each.labels.items()))) for family in families for each in family.samples
        }

    chance = random.Random(56)

    async def ask() -> None:
        transport = httpx.ASGITransport(keyed.application)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            for number in range(10_000):
                word = "".join(chance.choices("abcdefghij/._-", k=chance.randint(1, 30)))
                method = chance.choice(("GET", "POST", "PUT", "X" + word[:5].upper().replace("/", "A").replace(".", "B")))
                headers = chance.choice(({}, bearer(word.replace("/", "")), bearer("user")))
                path = chance.choice((f"/{word}", f"/v1/{word}", f"/v1/models/{word}", f"/v2/models/{word}/infer", f"/v1/models/{number}"))
                await client.request(method, path, headers=headers | {"user-agent": word})

    async def ask_for_models() -> None:
        transport = httpx.ASGITransport(keyed.application)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=bearer("user")) as client:
            for number in range(200):
                await client.post("/v1/caption", json={"image": IMAGE_TEXT, "model": f"model-{number}"})
                await client.post(f"/v2/models/{number}/infer", json={})

    for each in (ask, ask_for_models):
        # What a first request of its kind begins, it may.
        keyed.json("caption", headers=bearer("user"))
        keyed.call("POST", "/v2/models/none/infer", json={}, headers=bearer("user"))
        before = series()
        asyncio.run(each())
        assert series() == before


@pytest.mark.parametrize("docs", [True, False])
def test_threat_56_a_port_of_their_own_for_metrics_documentation_and_upkeep(rest: Rest, docs: bool) -> None:
    access = Access(Gate(lambda: KEYS, anonymous=False, lenient=False))
    rest.serve(access, Offered(tasks=False, docs=docs))
    inner = rest.application
    rest.serve(access, Offered(upkeep=False))
    outer = rest.application
    unload = "/v1/models/fake-224/unload"
    for path in PROBES - {"/v2/health/live", "/v2/health/ready"}:
        assert rest.get(path).status_code == 200
    for path in ("/metrics", "/docs", "/openapi.json"):
        problem(rest.get(path), 404, "not_found")
    assert "playground" in rest.get("/").text
    problem(rest.call("POST", unload, headers=bearer("admin")), 404, "not_found")
    assert rest.json("caption", headers=bearer("user")).status_code == 200
    rest.application = inner
    for path in PROBES - {"/v2/health/live", "/v2/health/ready"}:
        assert rest.get(path).status_code == 200
    assert rest.get("/metrics").status_code == 200
    assert [rest.get(path).status_code for path in ("/docs", "/openapi.json", "/")] == ([200, 200, 307] if docs else [404, 404, 404])
    problem(rest.json("caption", headers=bearer("user")), 404, "not_found")
    problem(rest.call("POST", unload, headers=bearer("user")), 403, "permission_denied")
    assert rest.call("POST", unload, headers=bearer("admin")).status_code == 200
    # httpx tells the application the port of the URL, as a connection would.
    rest.application = split_by_port(81, inner, outer)  # type: ignore[assignment]
    assert rest.get("http://test:81/metrics").status_code == 200
    assert rest.get("http://test:80/metrics").status_code == 404
    assert rest.get("http://test/metrics", headers={"host": "test:81"}).status_code == 404
