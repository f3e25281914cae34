"""What is served, and who may change it."""

import pytest

from service.transports.rest.application import create_application
from tests.transports.rest.service_fake import ADMIN_KEY, MAX_IMAGE_BYTES, Rest, problem

BEARER = {"authorization": f"Bearer {ADMIN_KEY}"}


def test_an_administrator_unloads_and_loads(rest: Rest) -> None:
    for what, state in (("unload", "cold"), ("load", "warm")):
        response = rest.call("POST", f"/v1/models/fake-224/{what}", headers=BEARER)
        assert (response.status_code, response.json()["id"], response.json()["state"]) == (200, "fake-224", state)
        assert rest.get("/v1/models").json()["data"][0]["state"] == state
        ready = rest.get("/v2/models/fake-224/ready")
        assert (ready.status_code, ready.json()["ready"]) == ((200, True) if state == "warm" else (503, False))
    problem(rest.call("POST", "/v1/models/no/load", headers=BEARER), 404, "model_not_found")


@pytest.mark.parametrize("what", ["load", "unload"])
def test_nobody_else_does(rest: Rest, what: str) -> None:
    path = f"/v1/models/fake-224/{what}"
    response = rest.call("POST", path)
    problem(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"
    problem(rest.call("POST", path, headers={"authorization": f"Basic {ADMIN_KEY}"}), 401, "unauthenticated")
    for key in ("", "another", f"{ADMIN_KEY}x", ADMIN_KEY.upper()):
        problem(rest.call("POST", path, headers={"authorization": f"Bearer {key}"}), 403, "permission_denied")
    rest.application = create_application(rest.service, rest.metrics, MAX_IMAGE_BYTES)
    problem(rest.call("POST", path, headers=BEARER), 403, "permission_denied")
    assert rest.service.state == "warm"
