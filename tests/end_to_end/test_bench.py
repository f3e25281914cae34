"""``paliserve bench`` against the real server: short runs, of which no figure says how quick this machine is."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from service.bench.plan import PARTS
from tests.end_to_end.authority import Authority
from tests.end_to_end.conftest import CHECKPOINT, Server, free_port, until
from tests.end_to_end.test_access import make_key
from tests.end_to_end.test_tls import Client

COMMAND = [sys.executable, "-m", "service.main", "bench"]


def bench(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=240, check=False, env=os.environ | environ)


def hits(server: Server) -> float:
    return server.series("paliserve_vision_cache_requests_total", outcome="hit")


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The whole document, and its loads."""
    document = json.loads(path.read_text())
    return document, document["loads"]


def test_rates_are_offered_and_told_as_a_table_json_and_a_plot(server: Server, tmp_path: Path) -> None:
    before = server.series("paliserve_generations_accepted_total")
    written = ("--json", str(tmp_path / "figures.json"), "--plot", str(tmp_path / "plot.png"))
    done = bench(
        "--url", server.url, "--rate", "4", "8", "--duration", "2", "--seed", "3", *written, "--max-errors", "0.9", "--max-p99", "60000"
    )
    assert (done.returncode, done.stderr) == (0, "")
    document, loads = read(tmp_path / "figures.json")
    assert [load["rate"] for load in loads] == [4, 8]
    assert all(load["sent"] == load["answered"] + load["refused"] + load["failed"] >= load["answered"] > 0 for load in loads)
    assert all(0 < load["p50"] <= load["p90"] <= load["p99"] <= load["max"] for load in loads)
    assert document["server"]["models"] == ["shapes-224"]
    assert (document["arguments"]["seed"], document["capacity"], document["interrupted"]) == (3, None, False)
    assert "key" not in document["arguments"]
    assert document["machine"]["cores"] > 0
    # Those of the first tenth, and the seven of the look beforehand, are not among the measured ones.
    asked = server.series("paliserve_generations_accepted_total") - before
    assert asked >= 7 + sum(load["answered"] for load in loads)
    head, *lines = done.stdout.splitlines()
    assert head.split()[:6] == ["OFFERED/S", "ANSWERED/S", "SENT", "ANSWERED", "REFUSED", "FAILED"]
    assert [line.split()[2] for line in lines[:2]] == [str(load["sent"]) for load in loads]
    assert "coordinated omission" in done.stdout
    with Image.open(tmp_path / "plot.png") as plot:
        plot.load()
        assert plot.width > plot.height > 300
        assert len(plot.convert("RGB").getcolors(1 << 20) or []) > 20


def test_parts_of_the_capacity_are_offered_where_no_rate_is_given(server: Server, tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    done = bench("--url", server.url, "--duration", "1", "--concurrency", "4", "--task", "read", "--json", str(written))
    assert done.returncode == 0, done.stderr
    document, loads = read(written)
    assert document["capacity"] > 0
    assert [load["load"] for load in loads] == pytest.approx(PARTS)
    assert "Capacity: " in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[1:7]] == [f"{part:.2f}" for part in PARTS]


@pytest.mark.parametrize("transport", ["rest", "grpc"])
@pytest.mark.parametrize("stream", [(), ("--stream",)])
def test_both_transports_answer_whole_and_in_streams(server: Server, transport: str, stream: tuple[str, ...], tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    address = ("--url", server.url) if transport == "rest" else ("--grpc", f"127.0.0.1:{server.grpc_port}")
    before = server.series("paliserve_generations_accepted_total", model="shapes-448")
    question = ("--prompt", "detect purple star ; sign", "--model", "shapes-448", "--max-tokens", "40")
    done = bench(*address, *stream, *question, "--rate", "4", "--duration", "1.5", "--json", str(written))
    assert done.returncode == 0, done.stderr
    document, (load,) = read(written)
    assert document["server"]["models"] == ["shapes-448"]
    assert server.series("paliserve_generations_accepted_total", model="shapes-448") - before >= load["answered"] > 0
    if stream:
        assert 0 < load["first_p50"] < load["p50"]
        assert load["between_p99"] >= load["between_p50"] > 0
        assert "FIRST P50" in done.stdout
    else:
        assert load["first_p50"] is None


def test_pictures_of_one_s_own_are_cached_where_that_is_asked_for(server: Server, sample: bytes, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(sample + name.encode())
    asking = ("--url", server.url, "--task", "read", "--image", str(tmp_path / "*.png"), "--rate", "8", "--duration", "1.5")
    for more, expected in ((("--cached",), True), ((), False)):
        before = hits(server)
        assert bench(*asking, *more).returncode == 0
        assert (hits(server) > before + 2) is expected


def test_thresholds_that_do_not_hold_are_told_and_are_the_exit_status(server: Server) -> None:
    done = bench("--url", server.url, "--rate", "8", "--duration", "1", "--task", "read", "--max-p99", "0.01")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("paliserve: at 8/s the p99 is ")


def test_who_interrupts_it_gets_the_figures_so_far(server: Server, tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    ended = "paliserve_generations_ended_total"
    before = server.series(ended)
    command = [*COMMAND, "--url", server.url, "--rate", "10", "--duration", "300", "--task", "read", "--json", str(written)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: server.series(ended) > before + 30, "it asked nothing")
        process.send_signal(signal.SIGINT)
        said, complained = process.communicate(timeout=60)
    assert (process.returncode, complained) == (130, "")
    document, (load,) = read(written)
    assert document["interrupted"]
    assert 0 < load["answered"] <= load["sent"]
    assert load["seconds"] < 300
    assert "Ended early" in said


@dataclass
class Guarded:
    """A server that speaks TLS and wants keys."""

    server: Server
    key: str
    ca: Path


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder, authority = tmp_path_factory.mktemp("guarded"), Authority("servers")
    authority.write(folder / "tls.crt", folder / "tls.key")
    (folder / "ca.crt").write_bytes(authority.certificate)
    key = make_key(folder / "keys.toml", "team-a")
    config = folder / "paliserve.toml"
    config.write_text(
        f'workers = 0\ntls_certificate = "{folder / "tls.crt"}"\ntls_key = "{folder / "tls.key"}"\n'
        f'api_keys_file = "{folder / "keys.toml"}"\n[[instances]]\nname = "only"\nsource = "{CHECKPOINT}"\n'
    )
    server = Server("--config", str(config), tls=Client(folder, authority, None).context())
    yield Guarded(server, key, folder / "ca.crt")
    server.close()


SHORT = ("--rate", "3", "--duration", "2", "--task", "read")


def test_tls_and_keys_over_both_transports(guarded: Guarded) -> None:
    grpc = f"https://127.0.0.1:{guarded.server.grpc_port}"
    for address in (("--url", guarded.server.url), ("--grpc", grpc)):
        done = bench(*address, "--ca", str(guarded.ca), *SHORT, PALISERVE_KEY=guarded.key)
        assert done.returncode == 0, done.stderr
        assert guarded.key not in done.stdout


def test_what_hinders_it_is_one_line(guarded: Guarded, server: Server, tmp_path: Path) -> None:
    ca, inner = ("--ca", str(guarded.ca)), ("--url", guarded.server.url)
    secure = ("--grpc", f"https://127.0.0.1:{guarded.server.grpc_port}")
    cases = [
        (("--url", f"http://127.0.0.1:{free_port()}"), "cannot be reached"),
        (("--grpc", f"127.0.0.1:{free_port()}"), "cannot be reached"),
        (("--url", "http://no-such-host.invalid"), "cannot be reached"),
        (("--url", "nonsense"), "no address"),
        (("--grpc", "127.0.0.1"), "HOST:PORT"),
        (inner, "--ca names a file"),
        ((*inner, *ca), "PALISERVE_KEY"),
        ((*inner, *ca, "--key", "pali_wrong"), "PALISERVE_KEY"),
        ((*secure, *ca, "--key", "pali_wrong"), "PALISERVE_KEY"),
        ((*inner, "--ca", "/no/such.crt"), "/no/such.crt"),
        (("--url", guarded.server.url.replace("https", "http")), "scheme"),
        (("--url", server.url.replace("http", "https")), "is it http?"),
        (("--url", server.url, "--model", "nobody"), "shapes-224"),
        (("--url", server.url, "--max-tokens", "4000"), "max_tokens"),
        (("--url", server.url, "--image", "/no/such.png"), "/no/such.png"),
        (("--url", server.url, "--task", "caption", "--prompt", "cat"), "--prompt"),
        (("--url", server.url, "--rate", "0"), "--rate 0"),
        (("--url", server.url, "--max-errors", "7"), "0 to 1"),
        (("--url", server.url, "--json", "/no/such/folder/a.json"), "/no/such/folder"),
        (("--url", server.url, "--json", str(tmp_path)), "is a folder"),
        (("--url", server.url, "--plot", str(tmp_path / "plot.txt")), ".png"),
    ]
    for arguments, words in cases:
        done = bench(*arguments)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
        assert words in done.stderr
        assert not done.stdout


def test_a_plot_without_matplotlib_says_what_to_install(server: Server, tmp_path: Path) -> None:
    program = "import sys; sys.modules['matplotlib'] = None; from service.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "bench", "--url", server.url, "--plot", str(tmp_path / "plot.png")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (1, "paliserve: --plot needs matplotlib: pip install 'paliserve[plot]'.\n")
