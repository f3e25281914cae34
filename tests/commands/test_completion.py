"""Completion in a real bash: what it offers, and that it runs nothing for it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def script(shell: str) -> str:
    command = [sys.executable, "-m", "service.main", "completion", shell]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("completion")
    (folder / "paliserve.bash").write_text(script("bash"))
    (folder / "cat.png").touch()
    (folder / "pictures").mkdir()
    return folder


def offered(bash: Path, *words: str) -> set[str]:
    """What the last word may become."""
    line = " ".join(f"'{word}'" for word in ("paliserve", *words))
    program = f"""
        source paliserve.bash
        [[ "$(complete -p paliserve)" =~ -F\\ ([^ ]+) ]]
        COMP_WORDS=({line}) COMP_CWORD={len(words)}
        PATH=
        "${{BASH_REMATCH[1]}}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", program], cwd=bash, capture_output=True, text=True, timeout=60, check=True)
    assert not [line for line in done.stderr.splitlines() if "compopt" not in line]
    return set(done.stdout.split())


def test_commands(bash: Path) -> None:
    assert {"serve", "ask", "models", "plan", "download", "key", "doctor", "completion"} <= offered(bash, "")
    assert offered(bash, "do") == {"download", "doctor"}


def test_flags_and_choices(bash: Path) -> None:
    assert {"--host", "--port", "--grpc-port", "--config", "--log-format", "--print-config"} <= offered(bash, "serve", "--")
    assert offered(bash, "serve", "--log-format", "") == {"console", "json"}
    assert offered(bash, "key", "somebody", "--role", "a") == {"admin"}
    assert offered(bash, "completion", "") == {"bash", "zsh", "fish"}


def test_files(bash: Path) -> None:
    assert offered(bash, "ask", "c") == {"cat.png"}
    assert offered(bash, "ask", "cat.png", "p") == {"paliserve.bash", "pictures"}
    assert offered(bash, "serve", "--config", "pali") == {"paliserve.bash"}
    assert offered(bash, "ask", "cat.png", "--save", "pic") == {"pictures"}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_can_read_theirs(shell: str, tmp_path: Path) -> None:
    made = tmp_path / "paliserve"
    made.write_text(script(shell))
    assert all(name in made.read_text() for name in ("paliserve", "doctor", "--save" if shell == "zsh" else "save"))
    found = shutil.which(shell)
    if found:
        subprocess.run([found, "-n", str(made)], check=True, timeout=60)
