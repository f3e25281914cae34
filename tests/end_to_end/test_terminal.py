"""Bars and colours are there for a person at a terminal, and for nobody else."""

import re
import shutil
import signal
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest

import service.demo
from tests.end_to_end.conftest import free_port
from tests.model.hub_fake import NAME, Hub
from tests.model.test_hub import FILES, asked
from tests.terminal import Terminal

SAMPLE = Path(service.demo.__file__).parent / "samples" / "scene.png"
COLOUR = "\033["
ERASED = "\r\033[K"
"""What a line of the log begins with where a bar may be drawn."""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "c.png"):
        shutil.copy(SAMPLE, tmp_path / name)
    (tmp_path / "bad.png").write_text("no picture")
    return tmp_path


def piped(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "service.main", *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_ask_shows_how_far_it_is(pictures: Path) -> None:
    terminal = Terminal("ask", str(pictures), "detect sign")
    assert terminal.end() == 1
    for part in ("starting", "reading shapes-224", "warming up shapes-224", "asking"):
        assert f"\r{part}" in terminal.text
    assert "4/4" in terminal.text
    assert re.search(r"\033\[32msign\033\[0m\t\d+", terminal.text)
    assert "\033[31mpaliserve:\033[0m" in terminal.text
    # Nothing is drawn behind a line, and no line is written behind a bar.
    for line in terminal.text.split("\r\n"):
        shown = line.rpartition("\r")[2]
        assert not ("sign" in shown and "asking" in shown), line


def test_nothing_of_it_is_in_a_pipe(pictures: Path) -> None:
    done = piped("ask", str(pictures), "detect sign")
    assert done.returncode == 1
    assert COLOUR not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    (complaint,) = done.stderr.splitlines()
    assert "bad.png" in complaint
    assert [Path(line.split("\t")[0]).name for line in done.stdout.splitlines()] == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize("command", [["models"], ["nonsense"], ["ask", "/no/such.png", "ocr"]])
def test_colours(command: list[str]) -> None:
    coloured = Terminal(*command)
    coloured.end()
    plain = Terminal(*command, environ={"NO_COLOR": "1"})
    plain.end()
    dumb = Terminal(*command, environ={"TERM": "dumb"})
    dumb.end()
    # What argparse says has none.
    assert (COLOUR in coloured.text) == (command != ["nonsense"])
    assert COLOUR not in plain.text + dumb.text
    assert COLOUR not in piped(*command).stdout


@pytest.mark.parametrize(("flags", "drawn"), [((), True), (("--log-format", "json"), False)])
def test_serve_shows_its_start_and_then_only_its_log(flags: tuple[str, ...], drawn: bool) -> None:
    server = Terminal("serve", "--port", "0", "--grpc-port", str(free_port()), *flags)
    server.wait_for(" and gRPC on ")
    # Whoever is answered is answered by a server that heeds Ctrl-C.
    url = re.findall(r"on (http://[\d.:]+) and gRPC", server.text)[0]
    assert httpx.get(f"{url}/livez", timeout=60).status_code == HTTPStatus.OK
    server.interrupt()
    assert server.end() == 0
    assert ("\rreading shapes-448" in server.text) == drawn
    assert ("\rwarming up shapes-896" in server.text) == drawn
    assert "Loading weights" not in server.text
    lines = [line.rpartition(ERASED)[2] for line in server.text.split("\r\n")]
    warm = [line for line in lines if "is warm" in line]
    assert len(warm) == 3
    # Whole lines, from their beginning: a date, or an object.
    assert all(re.match(r"\d{4}-" if drawn else r"\{\"time\"", line) for line in warm), warm
    after = server.text.partition("serving shapes-224")[2]
    assert "warming up" not in after


def test_ctrl_c_ends_it_with_a_whole_terminal(pictures: Path) -> None:
    terminal = Terminal("ask", str(pictures), "ocr")
    terminal.wait_for("reading shapes-224")
    terminal.interrupt()
    # 130, or the signal itself where a library was being imported: a shell tells both alike.
    assert terminal.end() in (130, -signal.SIGINT)
    assert "Traceback" not in terminal.text


def test_download_shows_bytes_and_tells_of_one_bar(tmp_path: Path) -> None:
    hub = Hub(dict(FILES))
    try:
        command, environ = asked(hub, tmp_path / "first", "download", NAME)
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=environ)
        assert (done.returncode, done.stderr) == (0, "")
        _, environ = asked(hub, tmp_path / "second", "download", NAME)
        terminal = Terminal("download", NAME, environ=environ)
        assert terminal.end() == 0, terminal.text
    finally:
        hub.close()
    assert re.search(rf"{NAME}: +100%.*8\.\d+M/8\.\d+M", terminal.text)
    assert "Fetching" not in terminal.text
    assert terminal.text.rstrip().split("\r\n")[-1].startswith(f"{NAME}: ")
    assert "checksums right" in terminal.text
