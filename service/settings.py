"""What an operator may set: defaults, a TOML file over them, ``PALISERVE_…`` variables over that, flags over all."""

import difflib
import json
import re
import tomllib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError, ValidationInfo, field_validator

from service.errors import OperatorError
from service.instance_settings import AdapterSettings, InstanceSettings, apart
from service.toml_lines import line_of, place

PREFIX = "PALISERVE_"
SERVICE_LINK = re.compile(r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
"""What Kubernetes puts into the environment for a Service called paliserve, or paliserve-and-more, without the prefix."""


OF_CLIENTS = frozenset({"PALISERVE_KEY"})
"""Variables of the commands that ask a server: none is a setting."""


HostName = Annotated[str, Field(pattern=r"^(\*|(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[?[0-9A-Fa-f:]+\]?)(:\d{1,5})?$")]
"""See ``FetchLimits``."""


Origin = Annotated[str, Field(pattern=r"^(\*|https?://([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:]+\])(:\d{1,5})?)$")]
"""See ``Browsers``."""


Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class SettingsError(OperatorError):
    """A setting cannot be used."""


class Settings(BaseModel):
    """All settings. No instances: the embedded model is served."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    grpc_port: int = Field(default=8001, ge=0, le=65535)
    grpc_reflection: bool = True
    grpc_max_message_bytes: int | None = Field(default=None, ge=1, lt=2**31)
    grpc_max_calls: int = Field(default=512, ge=1)
    grpc_calls_per_connection: int = Field(default=100, ge=1, lt=2**31)
    grpc_receive_seconds: Seconds = 60.0
    grpc_keepalive_seconds: Seconds = 60.0
    grpc_keepalive_timeout_seconds: Seconds = 20.0
    grpc_ping_interval_seconds: Seconds = 10.0
    grpc_connection_age_seconds: Seconds | None = None
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    tracing: bool = False
    max_image_bytes: int = Field(default=20_000_000, ge=1)
    max_image_pixels: int = Field(default=64_000_000, ge=1)
    image_workers: int | None = Field(default=None, ge=0, le=256)
    image_seconds: float = Field(default=10.0, gt=0, le=300, allow_inf_nan=False)
    image_url_hosts: tuple[HostName, ...] = ()
    image_url_http: bool = False
    image_url_private: bool = False
    image_url_seconds: float = Field(default=10.0, gt=0, le=300, allow_inf_nan=False)
    max_connections: int = Field(default=2048, ge=0)
    max_connections_per_address: int = Field(default=1024, ge=0)
    receive_head_seconds: Seconds = 10.0
    receive_body_seconds: Seconds = 30.0
    send_seconds: Seconds = 60.0
    slowest_bytes_per_second: int = Field(default=32_000, ge=1)
    keep_alive_seconds: Seconds = 30.0
    max_held_bytes: int | None = Field(default=None, ge=1)
    vision_cache_per_caller: bool = False
    max_queue: int = Field(default=256, ge=1)
    max_queue_seconds: Seconds = 1.5
    default_timeout_seconds: float = Field(default=60.0, gt=0, le=3600, allow_inf_nan=False)
    step_seconds: Seconds = 60.0
    device: str = "auto"
    threads: int = Field(default=0, ge=0, le=1024)
    workers: int | None = Field(default=None, ge=0, le=1024)
    instance_memory_bytes: int | None = Field(default=None, ge=1)
    admin_key: SecretStr | None = None
    api_keys_file: str | None = Field(default=None, min_length=1)
    anonymous: bool | None = None
    admin_host: str | None = None
    admin_port: int | None = Field(default=None, ge=0, le=65535)
    docs: bool = True
    playground: bool = True
    allowed_hosts: tuple[HostName, ...] | None = None
    cors_origins: tuple[Origin, ...] = ()
    tls_certificate: str | None = Field(default=None, min_length=1)
    tls_key: str | None = Field(default=None, min_length=1)
    tls_client_ca: str | None = Field(default=None, min_length=1)
    instances: tuple[InstanceSettings, ...] = ()

    @field_validator("image_url_hosts", "allowed_hosts", "cors_origins", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        """An environment variable holds them with commas between."""
        return [each.strip() for each in value.split(",") if each.strip()] if isinstance(value, str) else value

    @field_validator("tls_key", "tls_client_ca")
    @classmethod
    def _of_a_certificate(cls, value: str | None, info: ValidationInfo) -> str | None:
        # One that cannot be used is told of by itself.
        if value is not None and info.data.get("tls_certificate", value) is None:
            raise ValueError("tls_certificate is needed with it")
        return value

    @field_validator("instances")
    @classmethod
    def _named_apart(cls, value: tuple[InstanceSettings, ...]) -> tuple[InstanceSettings, ...]:
        return apart(value)


def load_settings(config: Path | None, flags: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """Put the sources together. Errors: SettingsError, which names the source, the key, and what would be right."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    text, from_file = _from_file(config)
    for origin, found in ((str(config), from_file), ("environment", _from_environment(environ)), ("command line", dict(flags))):
        for key in found:
            _check_key(f"{config}{line_of(text, (key,))}" if origin == str(config) else origin, key)
            origins[key] = origin
        values |= found
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        found_wrong = error.errors(include_url=False, include_input=False, include_context=False)
        # A key that is not known may be the one that is missed, wrongly spelt.
        first = min(found_wrong, key=lambda each: each["type"] != "extra_forbidden")
        table, name = place(first["loc"])
        origin = origins.get(str(first["loc"][0]), "settings")
        if origin == str(config):
            origin += line_of(text, first["loc"])
        known = AdapterSettings.model_fields if len(table) == 4 else InstanceSettings.model_fields
        hint = _nearest(name, known) if first["type"] == "extra_forbidden" else ""
        key = ".".join(str(part) for part in ((*table, name) if table else first["loc"][:2]))
        raise SettingsError(f"{origin}: {key}: {first['msg']}{hint}.") from None


def print_config(settings: Settings) -> str:
    """The settings as TOML. What is decided at the start where it is not given, is not there."""
    lines = _lines(settings.model_dump(exclude={"instances", "admin_key"}))
    if settings.admin_key:
        lines.append("# admin_key is set, and not shown")
    for instance in settings.instances:
        lines += ["", "[[instances]]", *_lines(instance.model_dump(exclude={"adapters"}))]
        for adapter in instance.adapters:
            lines += ["", "[[instances.adapters]]", *_lines(adapter.model_dump())]
    return "\n".join(lines)


def _from_file(config: Path | None) -> tuple[str, dict[str, Any]]:
    """The text and what it says."""
    if config is None:
        return "", {}
    try:
        text = config.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"{config}: {error.strerror or 'cannot be read'}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{config}: not TOML: {error}.") from None


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, text in environ.items():
        if not name.startswith(PREFIX) or name in OF_CLIENTS:
            continue
        key = name.removeprefix(PREFIX)
        if SERVICE_LINK.fullmatch(key) or (key.endswith("PORT") and "://" in text):
            warnings.warn(f"{name} is a Kubernetes service link and is ignored; enableServiceLinks: false avoids it", stacklevel=2)
            continue
        _check_key("environment", key.lower(), name)
        values[key.lower()] = _parsed(name, text) if key == "INSTANCES" else text
    return values


def _parsed(name: str, text: str) -> Any:
    try:
        return TypeAdapter(list[dict[str, Any]]).validate_json(text)
    except ValidationError:
        raise SettingsError(f"{name}: a JSON list of instances is needed.") from None


def _check_key(origin: str, key: str, shown: str = "") -> None:
    if key not in Settings.model_fields:
        raise SettingsError(f"{origin}: {shown or key} is not a setting{_nearest(key, Settings.model_fields)}.")


def _nearest(key: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"


def _lines(values: Mapping[str, object]) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in values.items() if value is not None]


def _toml(value: object) -> str:
    # TOML's strings are JSON's, but for this one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
