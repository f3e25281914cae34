"""Fetching from a stand-in of the hub: whole, broken off, refused, wrong."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import service.demo
from tests.model.hub_fake import COMMIT, NAME, Hub

DEMO = Path(service.demo.__file__).parent / "checkpoints" / "shapes-224"
SAMPLE = Path(service.demo.__file__).parent / "samples" / "scene.png"
FILES = {path.name: path.read_bytes() for path in DEMO.iterdir()} | {"pytorch_model.bin": b"x", "modeling.py": b"raise SystemExit"}


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub(dict(FILES))
    yield made
    made.close()


def asked(hub: Hub, home: Path, *arguments: str, **environ: str) -> tuple[list[str], dict[str, str]]:
    """A command, and the environment in which it asks the stand-in."""
    where = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return [sys.executable, "-m", "service.main", *arguments], kept | where | environ


def paliserve(hub: Hub, home: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: the hub's library reads the environment once."""
    command, where = asked(hub, home, *arguments, **environ)
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=where)


def told(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a command that failed."""
    assert done.returncode == 1, done.stdout + done.stderr
    return next(line for line in done.stderr.splitlines() if line.startswith("paliserve: "))


def test_threat_64_a_checkpoint_is_fetched_once_and_served_without_the_hub(hub: Hub, tmp_path: Path) -> None:
    done = paliserve(hub, tmp_path, "download", NAME, "--revision", "float16")
    assert done.returncode == 0, done.stderr
    assert "2 checksums right" in done.stdout
    folder = Path(done.stdout.split(": ", 1)[1].split(" (")[0])
    # Neither other weights nor code.
    assert {path.name for path in folder.iterdir()} == {name for name in FILES if name.endswith((".json", ".safetensors"))}
    count = len(hub.fetched("model.safetensors"))
    assert paliserve(hub, tmp_path, "download", NAME, "--revision", "float16").returncode == 0
    assert len(hub.fetched("model.safetensors")) == count == 1
    config = tmp_path / "paliserve.toml"
    config.write_text(f'[[instances]]\nname = "tiny"\nsource = "{NAME}"\nrevision = "float16"\n')
    hub.close()
    answer = paliserve(hub, tmp_path, "ask", str(SAMPLE), "ocr", "--config", str(config), HF_HUB_OFFLINE="1")
    assert answer.stdout == "GIFT\n", answer.stderr
    assert "tiny" in paliserve(hub, tmp_path, "plan", "--config", str(config), HF_HUB_OFFLINE="1").stdout


def test_settings_name_what_is_fetched(hub: Hub, tmp_path: Path) -> None:
    config = tmp_path / "paliserve.toml"
    one = f'source = "{NAME}"\nrevision = "float16"\n'
    adapter = f'[[instances.adapters]]\nname = "mine"\nsource = "{NAME}"\nrevision = "main"\n'
    here = f'[[instances]]\nname = "here"\nsource = "{DEMO}"\n'
    config.write_text(f'[[instances]]\nname = "one"\n{one}{adapter}[[instances]]\nname = "two"\n{one}{here}')
    done = paliserve(hub, tmp_path, "download", "--config", str(config))
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [NAME, NAME]
    assert {path.name for path in tmp_path.rglob("refs/*")} == {"float16", "main"}
    config.write_text("")
    assert "nothing of the hub" in paliserve(hub, tmp_path, "download", "--config", str(config)).stdout
    assert "--config" in told(paliserve(hub, tmp_path, "download"))


LARGE = 25_000_000
"""The library keeps what it has in pieces of ten megabytes."""


def test_threat_64_a_transfer_that_breaks_off_goes_on(hub: Hub, tmp_path: Path) -> None:
    hub.files["large.safetensors"] = os.urandom(LARGE)
    hub.break_after = 22_000_000
    done = paliserve(hub, tmp_path, "download", NAME)
    assert done.returncode == 0, done.stderr
    assert "3 checksums right" in done.stdout
    assert hub.fetched("large.safetensors") == ["", "bytes=20971520-"]


def test_threat_64_after_a_process_was_killed_what_is_whole_is_kept(hub: Hub, tmp_path: Path) -> None:
    """What it had of a file is not: the library gives each process a file of its own until it is whole."""
    hub.files["large.safetensors"] = os.urandom(LARGE)
    hub.hold_after = 22_000_000
    command, environ = asked(hub, tmp_path, "download", NAME)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ) as first:
        assert hub.held.wait(100)
        while not [path for path in tmp_path.rglob("model.safetensors") if path.is_file()]:
            os.sched_yield()
        first.kill()
    hub.go_on.set()
    hub.hold_after = None
    done = paliserve(hub, tmp_path, "download", NAME)
    assert done.returncode == 0, done.stderr
    assert "3 checksums right" in done.stdout
    assert len(hub.fetched("model.safetensors")) == 1
    assert hub.fetched("large.safetensors") == ["", ""]


def test_threat_64_wrong_bytes_are_found_and_removed(hub: Hub, tmp_path: Path) -> None:
    hub.wrong_bytes = True
    assert "SHA-256" in told(paliserve(hub, tmp_path, "download", NAME))
    hub.wrong_bytes = False
    for _ in range(2):
        done = paliserve(hub, tmp_path, "download", NAME)
        if done.returncode == 0:
            break
    assert "2 checksums right" in done.stdout


def test_threat_64_wrong_bytes_are_never_served(hub: Hub, tmp_path: Path) -> None:
    config = tmp_path / "paliserve.toml"
    config.write_text(f'[[instances]]\nname = "tiny"\nsource = "{NAME}"\nrevision = "{COMMIT}"\n')
    hub.wrong_bytes = True
    assert "SHA-256" in told(paliserve(hub, tmp_path, "ask", str(SAMPLE), "ocr", "--config", str(config)))
    assert {path.partition("/resolve/")[2].partition("/")[0] for _, path, _ in hub.asked if "/resolve/" in path} == {COMMIT}


def test_what_hinders_it_is_said(hub: Hub, tmp_path: Path) -> None:
    assert "no revision 'float8'" in told(paliserve(hub, tmp_path, "download", NAME, "--revision", "float8"))
    assert "no such checkpoint" in told(paliserve(hub, tmp_path, "download", "google/nothing"))
    hub.gated = True
    assert f"https://huggingface.co/{NAME}" in told(paliserve(hub, tmp_path, "download", NAME))
    hub.gated, hub.token = False, "hf_secret"
    assert "HF_TOKEN" in told(paliserve(hub, tmp_path, "download", NAME))
    assert paliserve(hub, tmp_path, "download", NAME, HF_TOKEN="hf_secret").returncode == 0


def test_a_full_disk_is_said_and_what_is_there_then_is_used(hub: Hub, tmp_path: Path) -> None:
    """As far as a process can fill one alone: a file that cannot grow any further."""
    small = 1_000_000
    command, environ = asked(hub, tmp_path, "download", NAME)
    done = subprocess.run(["prlimit", f"--fsize={small}", *command], capture_output=True, text=True, timeout=200, check=False, env=environ)
    assert "cannot be fetched" in told(done)
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("snapshots/*/model.safetensors"))
    done = paliserve(hub, tmp_path, "download", NAME)
    assert done.returncode == 0, done.stderr
    assert "2 checksums right" in done.stdout


def test_a_hub_that_is_down_is_said(hub: Hub, tmp_path: Path) -> None:
    hub.close()
    assert "the hub cannot be asked" in told(paliserve(hub, tmp_path, "download", NAME))


def test_offline_asks_nobody(hub: Hub, tmp_path: Path) -> None:
    assert "not in the cache" in told(paliserve(hub, tmp_path, "download", NAME, HF_HUB_OFFLINE="1"))
    assert hub.asked == []
