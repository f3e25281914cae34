"""Who is let in, and as whom."""

from contextlib import suppress

import pytest

from service.access import gate as gates
from service.access.gate import Caller, Gate, anonymous_allowed, is_loopback
from service.access.keys import Key, Limits, Role, digest
from service.errors import OperatorError, PermissionDenied, RateLimited, Unauthenticated

USER = Key("user", digest("user's key"), limits=Limits(requests_per_minute=1))
ADMIN = Key("admin", digest("admin's key"), Role.ADMIN)


def test_a_key_says_who_calls() -> None:
    gate = Gate(lambda: (USER, ADMIN), anonymous=False, lenient=False)
    assert gate.identify("Bearer user's key") == Caller(USER)
    assert gate.identify("bearer  admin's key ").name == "admin"


@pytest.mark.parametrize(
    "sent",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer another",
        "user's key",
        "Basic user's key",
        "Bearer USER'S KEY",
        "Bearer \x00",
        "Bearer é\udc80",
    ],
)
def test_all_others_are_refused(sent: str | None) -> None:
    with pytest.raises(Unauthenticated):
        Gate(lambda: (USER, ADMIN), anonymous=False, lenient=False).identify(sent)


def test_a_wrong_key_is_refused_where_none_would_do() -> None:
    gate = Gate(lambda: (USER,), anonymous=True, lenient=False)
    assert gate.identify(None) == Caller()
    with pytest.raises(Unauthenticated, match="not known"):
        gate.identify("Bearer another")
    # Clients of OpenAI's must send some key.
    assert Gate().identify("Bearer none") == Caller()


def test_only_administrators_pass() -> None:
    gate = Gate(lambda: (USER, ADMIN))
    gate.administrator(Caller(ADMIN))
    with pytest.raises(PermissionDenied):
        gate.administrator(Caller(USER))
    with pytest.raises(Unauthenticated):
        gate.administrator(Caller())
    for keys in ((), (USER,)):
        with pytest.raises(PermissionDenied, match="admin_key"):
            Gate(lambda keys=keys: keys).administrator(Caller())  # type: ignore[misc]


def test_keys_are_those_in_force_now() -> None:
    keys: tuple[Key, ...] = (USER,)
    now = 0.0
    gate = Gate(lambda: keys, anonymous=False, lenient=False, clock=lambda: now)
    with gate.admit(gate.identify("Bearer user's key")):
        keys = (ADMIN,)
        with pytest.raises(Unauthenticated):
            gate.identify("Bearer user's key")
        assert gate.identify("Bearer admin's key").name == "admin"


def test_visits_count_and_those_without_a_key_do_not() -> None:
    gate = Gate(lambda: (USER,), clock=lambda: 0.0)
    for _ in range(3):
        with gate.admit(Caller()) as visit, visit.request(16):
            pass
    with gate.admit(Caller(USER)):
        pass
    with pytest.raises(RateLimited):
        gate.admit(Caller(USER))


def test_threat_54_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = tuple(Key(f"key-{number}", digest(f"secret {number}")) for number in range(50))
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(gates, "compare_digest", compare)
    gate = Gate(lambda: keys, anonymous=False, lenient=False)
    for sent in ("secret 0", "secret 49", "another", ""):
        compared.clear()
        with suppress(Unauthenticated):
            gate.identify(f"Bearer {sent}")
        # Found early, late or never: as many comparisons, each of a hash with a hash.
        assert [one for one, _ in compared] == [key.digest for key in keys]
        assert {other for _, other in compared} == {digest(sent)}


def test_threat_54_others_are_not_let_in_by_default() -> None:
    assert anonymous_allowed(None, ["127.0.0.1"], (), from_file=False)
    assert anonymous_allowed(None, ["localhost", "::1"], (ADMIN,), from_file=False)
    assert not anonymous_allowed(None, ["127.0.0.1"], (USER,), from_file=True)
    for host in ("0.0.0.0", "::", "10.0.0.5", "example.org"):
        with pytest.raises(OperatorError) as caught:
            anonymous_allowed(None, ["127.0.0.1", host], (), from_file=False)
        for word in (host, "api_keys_file", "anonymous = true", "--host"):
            assert word in str(caught.value)
        assert anonymous_allowed(True, [host], (), from_file=False)
        assert not anonymous_allowed(None, [host], (ADMIN,), from_file=False)
        assert not anonymous_allowed(False, [host], (USER,), from_file=True)
    with pytest.raises(OperatorError, match="nobody could call"):
        anonymous_allowed(False, ["127.0.0.1"], (), from_file=False)


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "")))
