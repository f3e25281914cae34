"""Ports that are free, and ports that are really taken."""

import os
import socket
from collections.abc import Iterator

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
