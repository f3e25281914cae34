"""What stands between the network and the service, made of settings."""

from pathlib import Path

import pytest

from service.access.gate import Caller
from service.access.keys import Key, KeysError, block, digest
from service.errors import OperatorError, Unauthenticated
from service.listening import Doors
from service.settings import load_settings


def doors(**environ: str) -> Doors:
    return Doors(load_settings(None, {}, {f"PALISERVE_{name.upper()}": value for name, value in environ.items()}))


def keys_file(folder: Path, *names: str) -> str:
    file = folder / "keys.toml"
    file.write_text("\n".join(block(Key(name, digest(f"{name}'s"))) for name in names))
    return str(file)


def test_by_default_this_machine_may_ask_under_its_own_names() -> None:
    made = doors()
    assert made.access.allowed_hosts is not None
    assert {"localhost", "127.0.0.1", "[::1]"} <= set(made.access.allowed_hosts)
    assert made.gate.identify(None) == made.gate.identify("Bearer none") == Caller()
    assert (made.certificates, made.watched, made.access.cors_origins) == (None, [], ())


def test_others_ask_under_any_name_unless_some_are_listed() -> None:
    assert doors(host="0.0.0.0", anonymous="true").access.allowed_hosts is None
    assert doors(host="0.0.0.0", anonymous="true", allowed_hosts="a.example").access.allowed_hosts == ("a.example",)
    assert doors(admin_host="0.0.0.0", admin_port="1", anonymous="true").access.allowed_hosts is None
    # A host without a port is listened on by nobody.
    assert doors(admin_host="0.0.0.0").access.allowed_hosts


def test_one_key_without_a_file(tmp_path: Path) -> None:
    made = doors(admin_key="secret")
    made.gate.administrator(made.gate.identify("Bearer secret"))
    assert made.gate.identify("Bearer none") == Caller()
    away = doors(host="0.0.0.0", admin_key="secret")
    for sent in (None, "Bearer none"):
        with pytest.raises(Unauthenticated):
            away.gate.identify(sent)
    with pytest.raises(OperatorError, match="nothing says who may call"):
        doors(host="0.0.0.0", admin_key="")


def test_keys_of_a_file_and_the_one_of_the_settings(tmp_path: Path) -> None:
    made = doors(api_keys_file=keys_file(tmp_path, "team-a"), admin_key="secret")
    assert made.gate.identify("Bearer team-a's").name == "team-a"
    assert made.gate.identify("Bearer secret").name == "admin_key"
    for sent in (None, "Bearer none"):
        with pytest.raises(Unauthenticated):
            made.gate.identify(sent)
    keys_file(tmp_path, "team-b")
    for each in made.watched:
        each.look()
    assert made.gate.identify("Bearer team-b's").name == "team-b"
    assert made.gate.identify("Bearer secret").name == "admin_key"
    with pytest.raises(Unauthenticated):
        made.gate.identify("Bearer team-a's")
    with pytest.raises(KeysError, match="another name"):
        doors(api_keys_file=keys_file(tmp_path, "admin_key"), admin_key="secret")


def test_anonymous_callers_beside_those_with_keys(tmp_path: Path) -> None:
    made = doors(api_keys_file=keys_file(tmp_path, "team-a"), anonymous="true")
    assert made.gate.identify(None) == Caller()
    with pytest.raises(Unauthenticated, match="not known"):
        made.gate.identify("Bearer none")
