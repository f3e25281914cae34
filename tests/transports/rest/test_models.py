"""What is served, and who may change it."""

import pytest

from service.transports.rest.guard import Access
from tests.transports.rest.service_fake import ADMIN_KEY, Rest, problem

BEARER = {"authorization": f"Bearer {ADMIN_KEY}"}


def test_an_administrator_unloads_and_loads(rest: Rest) -> None:
    for what, state in (("unload", "cold"), ("load", "warm")):
        response = rest.call("POST", f"/v1/models/fake-224/{what}", headers=BEARER)
        assert (response.status_code, response.json()["id"], response.json()["state"]) == (200, "fake-224", state)
        assert rest.get("/v1/models").json()["data"][0]["state"] == state
        ready = rest.get("/v2/models/fake-224/ready")
        assert (ready.status_code, ready.json()["ready"]) == ((200, True) if state == "warm" else (503, False))
    problem(rest.call("POST", "/v1/models/no/load", headers=BEARER), 404, "model_not_found")


def test_an_administrator_loads_and_unloads_adapters(rest: Rest) -> None:
    path = "/v1/models/fake-224/adapters/parts"
    loaded = rest.call("POST", f"{path}/load", headers=BEARER, json={"source": "folder"})
    assert (loaded.status_code, loaded.json()["adapters"]) == (200, ["parts"])
    assert rest.get("/v1/models/fake-224").json()["adapters"] == ["parts"]
    problem(rest.call("POST", f"{path}/load", headers=BEARER, json={"source": "folder"}), 422, "invalid_request")
    problem(rest.call("POST", "/v1/models/fake-224/adapters/bad/load", headers=BEARER, json={"source": "bad"}), 422, "invalid_request")
    gone = rest.call("POST", f"{path}/unload", headers=BEARER)
    assert (gone.status_code, gone.json()["adapters"]) == (200, [])
    problem(rest.call("POST", f"{path}/unload", headers=BEARER), 404, "adapter_not_found")


@pytest.mark.parametrize("body", [{}, {"source": ""}, {"source": 3}, {"source": "a", "more": 1}, {"source": "a", "revision": ""}])
def test_an_adapter_needs_a_source(rest: Rest, body: dict[str, object]) -> None:
    problem(rest.call("POST", "/v1/models/fake-224/adapters/a/load", headers=BEARER, json=body), 422, "invalid_request")


@pytest.mark.parametrize("name", ["%20", "-a", "a" * 101, "a%00b"])
def test_an_adapter_has_a_plain_name(rest: Rest, name: str) -> None:
    problem(rest.call("POST", f"/v1/models/fake-224/adapters/{name}/load", headers=BEARER, json={"source": "a"}), 422, "invalid_request")


@pytest.mark.parametrize("what", ["load", "unload", "adapters/a/load", "adapters/a/unload"])
def test_nobody_else_does(rest: Rest, what: str) -> None:
    path = f"/v1/models/fake-224/{what}"
    response = rest.call("POST", path)
    problem(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"
    problem(rest.call("POST", path, headers={"authorization": f"Basic {ADMIN_KEY}"}), 401, "unauthenticated")
    for key in ("", "another", f"{ADMIN_KEY}x", ADMIN_KEY.upper()):
        problem(rest.call("POST", path, headers={"authorization": f"Bearer {key}"}), 401, "unauthenticated")
    rest.serve(Access())
    problem(rest.call("POST", path, headers=BEARER), 403, "permission_denied")
    assert rest.service.state == "warm"
