"""Ports that are free, and ports that are really taken."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.doctor.findings import Level
from service.doctor.ports import owner, ports
from service.settings import Settings


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_free_ports() -> None:
    (found,) = ports(Settings(port=0, grpc_port=0))
    assert found.level is Level.OK
    assert "any port" in found.said


def test_who_has_a_port_is_said(taken: int) -> None:
    wrong, free = ports(Settings(port=taken, grpc_port=0, admin_port=free_port(), admin_host="127.0.0.1"))
    assert (wrong.level, free.level) == (Level.PROBLEM, Level.OK)
    assert f"127.0.0.1:{taken}" in wrong.said
    assert f"process {os.getpid()} (" in wrong.said
    assert "--port" in wrong.mend
    assert "administrators" in free.said


@pytest.mark.parametrize(
    ("command", "level"),
    [
        (["/a/long/way/to/bin/python3", "/a/long/way/to/that/and/more/of/it/and/more/bin/paliserve", "serve"], Level.WARNING),
        (["python", "-m", "service.main", "serve", "--port", "1"], Level.WARNING),
        (["python", "-m", "http.server"], Level.PROBLEM),
        (["paliserve-exporter", "server"], Level.PROBLEM),
    ],
)
def test_a_server_of_ours_that_runs_is_no_problem(
    taken: int, command: list[str], level: Level, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net").symlink_to("/proc/net")
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "fd").symlink_to(f"/proc/{os.getpid()}/fd")
    (tmp_path / "7" / "cmdline").write_text("\0".join(command))
    monkeypatch.setattr("service.doctor.ports.PROCESSES", tmp_path)
    (found,) = ports(Settings(port=taken, grpc_port=0))
    assert found.level is level
    assert f"process 7 ({command[0].rpartition('/')[2]} " in found.said


def test_one_port_for_two() -> None:
    port = free_port()
    wrong, free = ports(Settings(port=port, grpc_port=port))
    assert wrong.level is Level.PROBLEM
    assert str(port) in wrong.said
    assert free.level is Level.OK


def test_nobody_has_it() -> None:
    assert owner(free_port()) == ""


def test_a_host_that_is_not_here() -> None:
    (wrong,) = ports(Settings(host="192.0.2.1", grpc_port=0))
    assert wrong.level is Level.PROBLEM
    assert "192.0.2.1" in wrong.said


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
