"""One model's contest: the servers, the turns they take, and what came of them."""

import json
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from load_tests.rivals.asks import Ask
from load_tests.rivals.client import Answered, Run, closed_loop, open_loop
from load_tests.rivals.servers import paliserve, rival

OURS, LOCK, LITSERVE, FIXED = "PaliServe", "FastAPI + lock", "LitServe", "fixed batches"


@dataclass(slots=True)
class Measured:
    """All runs of one server in one scenario, round by round."""

    server: str
    scenario: str
    runs: list[Run] = field(default_factory=list)


class Contest:
    """Starts everybody once, and lets one run at a time."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self.servers = {
            OURS: paliserve(folder),
            LOCK: rival(LOCK, "lock_server", folder),
            LITSERVE: rival(LITSERVE, "litserve_server", folder),
            FIXED: rival(FIXED, "fixed_batches", folder),
        }
        self.measured: dict[tuple[str, str], Measured] = {}
        for server in self.servers.values():
            server.wait()
            self._stack.callback(server.close)
        for server in self.servers.values():
            with server.running():
                pass

    def close(self) -> None:
        """End all servers."""
        self._stack.close()

    def closed(self, server: str, scenario: str, wanted: Sequence[Ask], concurrent: int) -> Run:
        """``concurrent`` callers; the fixed batches take no callers."""
        with self.servers[server].running() as port:
            if server == FIXED:
                run = _fixed(port, wanted)
            else:
                run = closed_loop(port, [self._message(server, each) for each in wanted], concurrent)
        return self._keep(server, scenario, run)

    def opened(self, server: str, scenario: str, wanted: Sequence[Ask], rate: float) -> Run:
        """``rate`` requests a second, come what may."""
        with self.servers[server].running() as port:
            run = open_loop(port, [self._message(server, each) for each in wanted], rate)
        return self._keep(server, scenario, run)

    def warm(self, server: str, wanted: Sequence[Ask]) -> None:
        """Requests that nobody counts."""
        with self.servers[server].running() as port:
            if server == FIXED:
                _fixed(port, wanted)
            else:
                closed_loop(port, [self._message(server, each) for each in wanted], 16)

    @staticmethod
    def _message(server: str, wanted: Ask) -> tuple[str, bytes]:
        return wanted.to_paliserve() if server == OURS else wanted.to_rival()

    def _keep(self, server: str, scenario: str, run: Run) -> Run:
        self.measured.setdefault((server, scenario), Measured(server, scenario)).runs.append(run)
        failed = sum(each.status not in (200, 503) for each in run.answers)
        print(
            f"{scenario:>24} {server:<15} {run.rate:7.2f} requests/s, p50 {run.latency(50):7.0f} ms, p95 {run.latency(95):7.0f} ms"
            + (f", {failed} FAILED" if failed else ""),
            flush=True,
        )
        return run


def _fixed(port: int, wanted: Sequence[Ask]) -> Run:
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rw", encoding="utf-8") as stream:
        stream.write(json.dumps([json.loads(each.to_rival()[1]) for each in wanted]) + "\n")
        stream.flush()
        answer = json.loads(stream.readline())
    return Run([Answered(200, float("nan"), text) for text in answer["texts"]], answer["seconds"])
