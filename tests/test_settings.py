"""Where settings come from, which wins, and what an operator is told who got one wrong."""

import re
import tomllib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.instance_settings import AdapterSettings, InstanceSettings
from service.settings import Settings, SettingsError, load_settings, print_config

FULL = """
host = "0.0.0.0"
port = 9000
log_format = "json"
default_timeout_seconds = 5

[[instances]]
name = "mix-448"
source = "google/paligemma-3b-mix-448"
dtype = "bfloat16"

[[instances]]
name = "own"
source = "/models/own"
slots = 8
"""


def load(
    directory: Path | None = None, toml: str | bytes = "", flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    config = directory / "paliserve.toml" if directory else None
    if config:
        config.write_bytes(toml.encode() if isinstance(toml, str) else toml)
    return load_settings(config, flags or {}, environ or {})


def refused(*arguments: Any, **named: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load(*arguments, **named)
    message = str(caught.value)
    assert "\n" not in message
    assert "pydantic" not in message
    return message


def test_defaults() -> None:
    assert load() == Settings()
    assert (Settings().host, Settings().port, Settings().instances) == ("127.0.0.1", 8000, ())


def test_flags_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    toml = 'port = 1\nhost = "file"\nlog_level = "error"'
    found = load(tmp_path, toml, {"port": 3}, {"PALISERVE_PORT": "2", "PALISERVE_HOST": "environment", "OTHER": "x", "PALI": "x"})
    assert (found.port, found.host, found.log_level, found.log_format) == (3, "environment", "error", "console")


def test_a_file_with_instances(tmp_path: Path) -> None:
    found = load(tmp_path, FULL)
    assert found.default_timeout_seconds == 5.0
    assert found.instances == (
        InstanceSettings(name="mix-448", source="google/paligemma-3b-mix-448", dtype="bfloat16"),
        InstanceSettings(name="own", source="/models/own", slots=8),
    )


def test_the_key_of_clients_is_no_setting() -> None:
    assert load(environ={"PALISERVE_KEY": "secret"}) == load()


def test_instances_in_the_environment() -> None:
    found = load(environ={"PALISERVE_INSTANCES": '[{"name": "a", "source": "b", "slots": 2}]'})
    assert found.instances == (InstanceSettings(name="a", source="b", slots=2),)
    for text in ("", "a", "{}", '["a"]', "[" * 100_000):
        assert "PALISERVE_INSTANCES: a JSON list" in refused(environ={"PALISERVE_INSTANCES": text})


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("prot = 1", ("prot is not a setting", "did you mean port?")),
        ("zzzzzz = 1", ("zzzzzz is not a setting", "there are host, port")),
        ("port = 70000", ("port", "65535")),
        ('port = "many"', ("port", "integer")),
        ('log_level = "loud"', ("log_level", "'warning'")),
        ("default_timeout_seconds = nan", ("default_timeout_seconds",)),
        ("default_timeout_seconds = inf", ("default_timeout_seconds",)),
        ("host = 5", ("host", "string")),
        ("instances = 5", ("instances",)),
        ("instances = [5]", ("instances.0",)),
        ('[[instances]]\nname = "a"', ("instances.0.source", "required")),
        ('[[instances]]\nsource = "a"', ("instances.0.name", "required")),
        ('[[instances]]\nname = "a"\nsource = "b"\nslot = 2', ("instances.0.slot", "did you mean slots?")),
        ('[[instances]]\nname = "a b"\nsource = "b"', ("instances.0.name", "pattern")),
        ('[[instances]]\nname = "a\\n"\nsource = "b"', ("instances.0.name", "pattern")),
        ('[[instances]]\nname = "a"\nsource = "b"\ndtype = "int4"', ("instances.0.dtype", "bfloat16")),
        ('[[instances]]\nname = "a"\nsource = "b"\n[[instances]]\nname = "a"\nsource = "c"', ("instances", "a", "twice")),
        ('[[instances]]\nname = "a"\nsource = "b"\nquantization = "int2"', ("instances.0.quantization", "int8-dynamic")),
        ('[[instances]]\nname = "a"\nsource = "b"\nprompt_style = "docvqa"', ("instances.0.prompt_style", "bare-question")),
        ('[[instances]]\nname = "a"\nsource = "b"\nenlarge = 3', ("instances.0.enlarge",)),
        ('[[instances]]\nname = "a"\nsource = "b"\nmax_images = 17', ("instances.0.max_images", "16")),
        (
            '[[instances]]\nname = "a"\nsource = "b"\nmax_adapters = 0\n[[instances.adapters]]\nname = "x"\nsource = "y"',
            ("max_adapters is 0", "1 adapters"),
        ),
        (
            '[[instances]]\nname = "a"\nsource = "b"\n'
            '[[instances.adapters]]\nname = "x"\nsource = "y"\n[[instances.adapters]]\nname = "x"\nsource = "z"',
            ("x", "twice"),
        ),
        ('[[instances]]\nname = "a"\nsource = "b"\n[[instances.adapters]]\nname = "x"', ("instances.0.adapters.0.source", "required")),
        (
            '[[instances]]\nname = "a"\nsource = "b"\n[[instances.adapters]]\nname = "x"\nsorce = "y"',
            ("instances.0.adapters.0.sorce", "did you mean source?"),
        ),
        ('cors_origins = ["app.example.org"]', ("cors_origins",)),
        ('cors_origins = ["https://app.example.org/"]', ("cors_origins",)),
        ('allowed_hosts = ["a b"]', ("allowed_hosts",)),
        ('tls_key = "tls.key"', ("tls_key", "tls_certificate is needed")),
        ('tls_client_ca = "ca.crt"', ("tls_client_ca", "tls_certificate is needed")),
        ("admin_port = 70000", ("admin_port", "65535")),
        ("port = 1\nport = 2", ("not TOML",)),
        ("port", ("not TOML",)),
        (b'host = "\xff"', ("not TOML",)),
    ],
)
def test_what_a_file_gets_wrong(tmp_path: Path, toml: str | bytes, words: tuple[str, ...]) -> None:
    message = refused(tmp_path, toml)
    assert re.match(rf"{re.escape(str(tmp_path / 'paliserve.toml'))}(:\d+)?: ", message)
    for word in words:
        assert word in message


TWO_ADAPTERS = """
[[instances]]
name = "a"
source = "b"

[[instances.adapters]]
name = "x"
source = "y"
[[instances.adapters]]
name = "z"
"""


@pytest.mark.parametrize(
    ("toml", "line"),
    [
        ('host = "x"\nport = "y"\n', 2),
        ("# first\n\nprot = 1\n", 3),
        ('[[instances]]\nname = "a"\nsource = "b"\n\n[[instances]]\nname = "c"\ndtype = "float8"\nsource = "d"\n', 7),
        ('[[instances]]\nname = "a"\nsource = "b"\n[[instances]]\nname = "c"\n', 4),
        ('[[instances]]\nname = "a"\nsource = "b"\nslotz = 3\n', 4),
        (f"{TWO_ADAPTERS}sorce = 3\n", 11),
        (f"{TWO_ADAPTERS}revision = 3\nsource = 'z'\n", 11),
        (TWO_ADAPTERS, 9),
        ('[[instances]]\nname = "a"\nsource = "b"\nadapters = [{name = "x"}]\n', 4),
    ],
)
def test_errors_name_the_line(tmp_path: Path, toml: str, line: int) -> None:
    config = tmp_path / "paliserve.toml"
    config.write_text(toml)
    with pytest.raises(SettingsError, match=f"^{re.escape(str(config))}:{line}: "):
        load_settings(config, {}, {})


def test_the_admin_key_is_not_shown() -> None:
    shown = print_config(load_settings(None, {}, {"PALISERVE_ADMIN_KEY": "very secret"}))
    assert "very secret" not in shown
    assert "# admin_key is set" in shown


def test_lists_in_the_environment_have_commas() -> None:
    found = load(
        environ={"PALISERVE_CORS_ORIGINS": "https://a.example, http://localhost:3000", "PALISERVE_ALLOWED_HOSTS": "a.example,*.b:81"}
    )
    assert found.cors_origins == ("https://a.example", "http://localhost:3000")
    assert found.allowed_hosts == ("a.example", "*.b:81")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(SettingsError, match=str(path)):
            load_settings(path, {}, {})


def test_a_file_is_utf_8(tmp_path: Path) -> None:
    assert load(tmp_path, 'device = "é😀"').device == "é😀"


def test_what_the_environment_gets_wrong() -> None:
    message = refused(environ={"PALISERVE_PROT": "1"})
    assert "environment: PALISERVE_PROT is not a setting; did you mean port?" in message
    assert refused(environ={"PALISERVE_PORT": "many"}).startswith("environment: port: ")
    assert refused(environ={"PALISERVE_PORT": ""}).startswith("environment: port: ")
    assert refused(environ={"PALISERVE_": "x"}).startswith("environment: ")


def test_what_the_command_line_gets_wrong(tmp_path: Path) -> None:
    assert refused(tmp_path, "port = 1", {"port": 99999}, {"PALISERVE_PORT": "2"}).startswith("command line: port: ")


LINKS = {
    "SERVICE_HOST": "10.0.0.1", "SERVICE_PORT": "8000", "SERVICE_PORT_HTTP": "8000", "PORT": "tcp://10.0.0.1:8000",
    "PORT_8000_TCP": "tcp://10.0.0.1:8000", "PORT_8000_TCP_PROTO": "tcp", "PORT_8000_TCP_PORT": "8000", "PORT_8000_TCP_ADDR": "10.0.0.1",
    "PORT_53_UDP": "udp://10.0.0.1:53",
}  # fmt: skip


@pytest.mark.parametrize("service", ["", "GRPC_", "HEAD_LESS_"])
@pytest.mark.parametrize("name", LINKS)
def test_service_links_are_ignored(service: str, name: str) -> None:
    with pytest.warns(UserWarning, match=f"PALISERVE_{service}{name} is a Kubernetes service link"):
        assert load(environ={f"PALISERVE_{service}{name}": LINKS[name]}) == Settings()


def test_what_only_looks_like_a_service_link() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(environ={"PALISERVE_PORT": "9000"}).port == 9000
        for name in ("SERVICE_HOSTS", "HEAD_LESS_PORT", "PORTS"):
            refused(environ={f"PALISERVE_{name}": "1"})


@pytest.mark.parametrize("toml", ["", FULL])
def test_print_config_round_trips(tmp_path: Path, toml: str) -> None:
    settings = load(tmp_path, toml)
    printed = print_config(settings)
    assert load(tmp_path, printed) == settings
    unset = {name for name in Settings.model_fields if getattr(settings, name) is None}
    assert set(tomllib.loads(printed)) | {"instances"} | unset == set(Settings.model_fields)


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=2000)
@given(
    settings=st.builds(
        Settings,
        host=text,
        device=text,
        default_timeout_seconds=st.floats(0, 3600, exclude_min=True),
        max_queue=st.integers(1, 10**15),
        instances=st.lists(
            st.builds(
                InstanceSettings,
                name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
                source=text,
                revision=st.none() | text,
                mask_decoder=st.none() | text,
                device=st.none() | text,
            ),
            max_size=3,
            unique_by=lambda each: each.name,
        ),
    )
)
def test_any_settings_round_trip(tmp_path: Path, settings: Settings) -> None:
    assert load(tmp_path, print_config(settings)) == settings


def test_adapters_are_read_printed_and_have_room() -> None:
    one = AdapterSettings(name="x", source="y")
    assert InstanceSettings(name="a", source="b").adapter_places == 0
    assert InstanceSettings(name="a", source="b", adapters=(one,)).adapter_places == 8
    assert InstanceSettings(name="a", source="b", adapters=(one,), max_adapters=2).adapter_places == 2
    settings = Settings(instances=(InstanceSettings(name="a", source="b", adapters=(one,)), InstanceSettings(name="c", source="d")))
    assert Settings.model_validate(tomllib.loads(print_config(settings))) == settings
