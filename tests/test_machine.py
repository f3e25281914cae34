import resource
from pathlib import Path

import pytest

from service import machine


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    return tmp_path


def test_cores_are_those_it_may_run_on(cgroup: Path) -> None:
    assert machine.cores() == 8
    (cgroup / "cpu.max").write_text("max 100000\n")
    assert machine.cores() == 8


@pytest.mark.parametrize(("quota", "cores"), [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("9900000 100000", 8)])
def test_a_containers_share_counts_in_whole_cores(cgroup: Path, quota: str, cores: int) -> None:
    (cgroup / "cpu.max").write_text(quota + "\n")
    assert machine.cores() == cores


def test_figures_are_kept_with_what_they_were_measured_on() -> None:
    about = machine.description(("pillow", "no-such-package"))
    assert about["cores"] > 0
    assert about["processor"]
    assert about["versions"]["pillow"][0].isdigit()
    assert about["versions"]["no-such-package"] == "0"


def test_memory_is_the_machines_or_the_containers(cgroup: Path) -> None:
    whole = machine.memory_bytes()
    assert whole > 100_000_000
    (cgroup / "memory.max").write_text("max\n")
    assert machine.memory_bytes() == whole
    (cgroup / "memory.max").write_text("100000000\n")
    assert machine.memory_bytes() == 100_000_000


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "allowed"),
    [(1024, 4096, 3000, 3000), (1024, 2048, 3000, 2048), (5000, 9000, 3000, 5000), (1024, resource.RLIM_INFINITY, 3000, 3000)],
)
def test_files_that_may_be_open(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, wanted: int, allowed: int) -> None:
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, set_to: limits.append(set_to))
    assert machine.open_files(wanted) == allowed
    assert limits[-1] == (max(soft, min(allowed, wanted)), hard)
