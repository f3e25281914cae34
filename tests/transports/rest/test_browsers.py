"""What pages of other sites can do to a server that their visitor's browser reaches."""

import pytest

from service.transports.rest.browsers import LOCAL_HOSTS
from service.transports.rest.guard import Access
from tests.transports.rest.service_fake import IMAGE, Rest, problem

SITE = "https://app.example.org"
FOREIGN = ["evil.example", "localhost.evil.example", "", "[::2]", "localhost:", "a b", "x@localhost", "[::1", "localhost/"]


def form(rest: Rest, **headers: str) -> int:
    """What a form of a page sends: no leave is asked for it."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return rest.call("POST", "/v1/caption", files={"image": ("x.png", IMAGE)}, headers=sent).status_code


@pytest.mark.parametrize("host", FOREIGN)
def test_threat_31_another_name_of_a_local_server_is_refused(rest: Rest, host: str) -> None:
    rest.serve(Access(allowed_hosts=LOCAL_HOSTS))
    for method, path in (("POST", "/v1/caption"), ("GET", "/v1/models"), ("GET", "/metrics"), ("GET", "/docs"), ("GET", "/")):
        problem(rest.call(method, path, headers={"host": host}), 421, "misdirected_request")
    assert not rest.fake.calls
    # A kubelet knows no name, and learns nothing.
    assert rest.get("/livez", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000", "[::1]"])
def test_its_own_names_are_answered(rest: Rest, host: str) -> None:
    rest.serve(Access(allowed_hosts=LOCAL_HOSTS))
    assert rest.json("caption", headers={"host": host}).status_code == 200


def test_names_may_be_patterns_and_have_ports(rest: Rest) -> None:
    rest.serve(Access(allowed_hosts=("*.example.org", "one.test:81")))
    expected = {"a.example.org:9": 200, "example.org": 421, "one.test:81": 200, "one.test": 421, "one.test:82": 421}
    assert {host: rest.get("/v1/models", headers={"host": host}).status_code for host in expected} == expected
    rest.serve(Access(allowed_hosts=("*",)))
    assert rest.get("/v1/models", headers={"host": "any"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:3000", "host": "localhost:8000"},
        {"origin": "https://evil.example", "sec_fetch_site": "cross-site"},
        {"origin": "http://test.evil.example"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
def test_threat_31_forms_of_other_sites_are_refused(rest: Rest, headers: dict[str, str]) -> None:
    assert form(rest, **headers) == 403
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    problem(rest.json("caption", headers=sent), 403, "permission_denied")
    problem(rest.call("POST", "/v1/models/fake-224/unload", headers=sent), 403, "permission_denied")
    assert not rest.fake.calls
    assert rest.service.state == "warm"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://test"},
        {"origin": "https://Test"},
        {"origin": "https://front.example", "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
    ],
)
def test_programs_and_its_own_pages_are_answered(rest: Rest, headers: dict[str, str]) -> None:
    assert form(rest, **headers) == 200


def test_pages_of_nobody_may_read_until_they_are_listed(rest: Rest) -> None:
    leave = {"origin": SITE, "access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    problem(rest.call("OPTIONS", "/v1/caption", headers=leave), 403, "permission_denied")
    assert not [name for name in rest.get("/v1/models", headers={"origin": SITE}).headers if name.startswith("access-control")]
    rest.serve(Access(cors_origins=(SITE,)))
    told = rest.call("OPTIONS", "/v1/caption", headers=leave)
    assert told.status_code == 200
    assert told.headers["access-control-allow-origin"] == SITE
    assert "authorization" in told.headers["access-control-allow-headers"]
    answer = rest.json("caption", headers={"origin": SITE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, SITE)
    assert answer.headers["access-control-expose-headers"] == "x-request-id, retry-after"
    problem(rest.json("caption", headers={"origin": "https://other.example"}), 403, "permission_denied")
    problem(rest.call("OPTIONS", "/v1/caption", headers=leave | {"origin": "https://other.example"}), 403, "permission_denied")


def test_all_sites_may_be_listed_but_bring_no_cookies(rest: Rest) -> None:
    rest.serve(Access(cors_origins=("*",)))
    for origin in (SITE, "null"):
        answer = rest.json("caption", headers={"origin": origin, "cookie": "a=b"})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
        assert "access-control-allow-credentials" not in answer.headers


def test_threat_31_what_callers_wrote_is_never_taken_for_a_page(rest: Rest) -> None:
    script = "<img src=x onerror=alert(1)>"
    answers = [
        rest.json("detect", {"objects": [script]}),
        rest.json("detect", {"objects": [script, 3]}),
        rest.json("caption", {"model": script}),
        rest.call("POST", "/v1/chat/completions", json={"model": script}),
        rest.get(f"/v1/models/{script}"),
        rest.get(f"/{script}"),
        rest.call("POST", "/v1/caption", headers={"origin": script}),
    ]
    for each in answers:
        assert each.headers["content-type"] in ("application/json", "application/problem+json")
        assert each.headers["x-content-type-options"] == "nosniff"
