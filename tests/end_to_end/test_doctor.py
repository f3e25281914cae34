"""``paliserve doctor`` in surroundings that are really wrong."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import service.demo
from tests.end_to_end.conftest import free_port
from tests.model.hub_fake import NAME, Hub
from tests.model.test_hub import FILES

DEMO = Path(service.demo.__file__).parent / "checkpoints" / "shapes-224"
FREE = {"PALISERVE_PORT": "0", "PALISERVE_GRPC_PORT": "0"}


def examined(*flags: str, environ: Mapping[str, str] | None = None, before: str = "") -> tuple[int, dict[str, list[str]]]:
    """Its exit status, and by ``level check`` what was said and what is to be done."""
    line = f'{before} exec "$0" -m service.main doctor --json "$@"'
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PALISERVE_"))}
    done = subprocess.run(
        ["bash", "-c", line, sys.executable, *flags],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=kept | FREE | dict(environ or {}),
    )
    assert done.stderr == ""
    told: dict[str, Any] = json.loads(done.stdout)
    found: dict[str, list[str]] = {}
    for each in told["findings"]:
        found.setdefault(f"{each['level']} {each['about']}", []).append(f"{each['said']} {each['mend']}".strip())
    assert told["problems"] == sum(len(each) for key, each in found.items() if key.startswith("problem"))
    return done.returncode, found


def only(found: dict[str, list[str]], level: str) -> dict[str, list[str]]:
    return {key: each for key, each in found.items() if key.startswith(level)}


def test_here_is_no_problem() -> None:
    status, found = examined()
    assert (status, only(found, "problem")) == (0, {})
    assert {key.split()[1] for key in found} >= {
        "python",
        "libraries",
        "settings",
        "devices",
        "models",
        "memory",
        "machine",
        "ports",
        "access",
    }


def test_as_lines() -> None:
    command = [sys.executable, "-m", "service.main", "doctor"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=200, check=False, env=os.environ | FREE | {"PALISERVE_PORT": port}
        )
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith("ok       python     Python 3.")
    (number,) = [number for number, line in enumerate(lines) if line.startswith("problem")]
    assert f":{port}: Address already in use" in lines[number]
    assert f"process {os.getpid()}" in lines[number]
    assert lines[number + 1].strip().startswith("→ ")
    assert lines[-1].startswith("1 problem")


def test_few_files_and_a_proxy() -> None:
    status, found = examined(before="ulimit -n 600;", environ={"http_proxy": "http://proxy:3128", "no_proxy": ""})
    assert status == 0
    assert "may open 600 files: 88 connections are served at once, not 2048" in found["warning machine"][0]
    assert "export no_proxy" in found["warning proxies"][0]


def test_settings_with_a_slip(tmp_path: Path) -> None:
    config = tmp_path / "paliserve.toml"
    config.write_text("\nmax_image_byte = 1\n")
    status, found = examined("--config", str(config))
    assert status == 1
    assert f"{config}:2: max_image_byte is not a setting; did you mean max_image_bytes?" in found["problem settings"][0]
    status, found = examined("--config", str(tmp_path / "none.toml"))
    assert "No such file" in found["problem settings"][0]


def test_several_things_at_once(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DEMO, tmp_path / "model"))
    (folder / "tokenizer.json").unlink()
    port = free_port()
    config = tmp_path / "paliserve.toml"
    config.write_text(
        f'host = "0.0.0.0"\nport = {port}\ngrpc_port = {port}\n[[instances]]\nname = "mine"\nsource = "{folder}"\n'
        f'[[instances]]\nname = "far"\nsource = "{DEMO}"\ndevice = "cuda:7"\n'
    )
    status, found = examined("--config", str(config), environ={"PALISERVE_PORT": str(port), "PALISERVE_GRPC_PORT": str(port)})
    assert status == 1
    assert set(only(found, "problem")) == {"problem devices", "problem models", "problem ports", "problem access"}
    assert any("mine" in each for each in found["problem models"])


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("down", "cannot be"),
        ("gated", "its licence has to be accepted"),
        ("hidden", "set HF_TOKEN"),
        ("offline", "HF_HUB_OFFLINE keeps"),
        ("none", ""),
    ],
)
def test_the_hub(tmp_path: Path, cause: str, words: str) -> None:
    hub = Hub(dict(FILES))
    environ = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    config = tmp_path / "paliserve.toml"
    config.write_text(f'[[instances]]\nname = "one"\nsource = "{NAME}"\nresolution = 224\npreload = false\n')
    hub.gated, hub.token = cause == "gated", "hf_secret" if cause == "hidden" else None
    if cause == "down":
        hub.close()
    try:
        status, found = examined("--config", str(config), environ=environ | ({"HF_HUB_OFFLINE": "1"} if cause == "offline" else {}))
    finally:
        if cause != "down":
            hub.close()
    if cause == "none":
        assert status == 0
        assert f"paliserve download {NAME}" in found["warning models"][0]
    else:
        assert status == 1
        assert words in found["problem models"][0]
        assert f"paliserve download {NAME}" in found["problem models"][0]


def test_a_checkpoint_that_was_fetched_in_part(tmp_path: Path) -> None:
    hub = Hub({name: data for name, data in FILES.items() if name != "model.safetensors"})
    environ = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    config = tmp_path / "paliserve.toml"
    config.write_text(f'[[instances]]\nname = "one"\nsource = "{NAME}"\n')
    command = [sys.executable, "-m", "service.main", "download", "--config", str(config)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=200, env=os.environ | environ)
    finally:
        hub.close()
    status, found = examined("--config", str(config), environ=environ)
    assert status == 1
    assert "no safetensors weights" in found["problem models"][0]
    assert f"paliserve download {NAME}" in found["problem models"][0]
