"""Three replicas under load: restarted one by one, one killed, one frozen. Over REST through HAProxy, over gRPC with and without it."""

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.cluster.replicas import Balancer, Replica, until
from tests.end_to_end.conftest import needed
from tests.end_to_end.crowd import Crowd, Ended, Outcome

pytestmark = pytest.mark.timeout(900)

EVERY = 0.4
"""Seconds between two arrivals of each kind, whatever became of those before: five kinds are 12 or 13 requests a second."""

RETRY = {"maxAttempts": 4, "initialBackoff": "0.1s", "maxBackoff": "2s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}
METHODS = [{"name": [{"service": "paligemma.v1.PaliGemmaService"}], "retryPolicy": RETRY}]
"""As the README has it."""

ROUND_ROBIN = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}, "methodConfig": METHODS}
KEEPALIVE = [("grpc.keepalive_time_ms", 10_000), ("grpc.keepalive_timeout_ms", 2_000), ("grpc.http2.ping_timeout_ms", 2_000)]
"""The server lets a client ask every ten seconds. Without the last one, who is frozen was not found out in 25 seconds: a ping that gRPC
sends beside its requests has a minute, and while it is on its way no other counts."""

SURGE = 40
"""Requests that come at once, just before a replica is killed or frozen: so some are on it for certain."""

FROZEN = 15.0
"""Seconds: longer than anybody needs to find it out."""


def options(config: dict[str, Any]) -> list[tuple[str, Any]]:
    return [("grpc.service_config", json.dumps(config)), *KEEPALIVE]


@dataclass(slots=True)
class Cluster:
    """Replicas, what stands before them, and their clients."""

    replicas: list[Replica]
    balancer: Balancer
    crowds: dict[str, Crowd] = field(default_factory=dict)
    surge: int = 0
    longest: dict[str, float] = field(default_factory=dict)

    def meet(self) -> None:
        """New clients: those behind HAProxy, and those who know all three addresses."""
        addresses = ",".join(f"127.0.0.1:{replica.grpc}" for replica in self.replicas)
        self.crowds = {
            "haproxy": Crowd(self.balancer.http, f"127.0.0.1:{self.balancer.grpc}", options=options({"methodConfig": METHODS}), channels=1),
            "round robin": Crowd(0, f"ipv4:{addresses}", options=options(ROUND_ROBIN), channels=1),
        }

    async def ask_during(self, work: Callable[[], None]) -> None:
        """Arrivals in steady steps until ``work`` is done, and one second more; then all answers."""
        behind, knowing = self.crowds.values()
        ways = [behind.plain, behind.events, behind.unary, knowing.unary, knowing.stream]
        self.longest.clear()
        working = asyncio.create_task(asyncio.to_thread(work))
        began, count = time.monotonic(), 0
        async with asyncio.TaskGroup() as group:
            while not working.done() or time.monotonic() < began + 1:
                await asyncio.sleep(max(0.0, began + count * EVERY / len(ways) - time.monotonic()))
                at_once, self.surge = 1 + self.surge, 0
                for number in range(at_once):
                    group.create_task(self._timed(ways[(count + number) % len(ways)]))
                count += 1
        await working
        for crowd in self.crowds.values():
            await crowd.close()

    async def _timed(self, way: Callable[[], Awaitable[Outcome]]) -> None:
        began = time.monotonic()
        await way()
        name = next(name for name, crowd in self.crowds.items() if crowd is getattr(way, "__self__", None)) + " " + way.__name__
        self.longest[name] = max(self.longest.get(name, 0.0), time.monotonic() - began)

    def strike(self, victim: Replica, number: signal.Signals) -> int:
        """Send a signal to a replica that has requests; returns how many, or more."""
        until(lambda: len(self.crowds["haproxy"].ended) > 10, "no answers")
        self.surge = SURGE
        held = 0

        def has_some() -> bool:
            nonlocal held
            held = victim.held()
            return held > 1

        until(has_some, "no request is on it")
        victim.process.send_signal(number)
        return held

    def failed(self) -> list[Ended]:
        """All that got no answer, refused ones as well."""
        return [each for crowd in self.crowds.values() for each in crowd.ended if each.outcome is not Outcome.ANSWERED]

    def failed_but_begun(self, victim: Replica) -> tuple[list[Ended], int]:
        """The same without streams that the victim may have begun; and how many those are."""
        # Of those who ask all three by themselves it is not known whom they asked.
        begun = [each for each in self.failed() if each.way in {"events", "stream"} and each.server in {victim.name, ""}]
        return [each for each in self.failed() if each not in begun], len(begun)

    def told(self, what: str) -> None:
        """For who runs ``make test-cluster``."""
        for name, crowd in self.crowds.items():
            ways = Counter(each.way for each in crowd.ended)
            servers = Counter(each.server for each in crowd.ended if each.server)
            outcomes = {outcome.value: count for outcome, count in crowd.tally().items()}
            print(f"cluster: {what}, {name}: {dict(ways)} {outcomes} {dict(servers) or ''}")
        print(f"cluster: {what}, longest in seconds: { {name: round(seconds, 1) for name, seconds in self.longest.items()} }")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    program, folder = needed("haproxy"), tmp_path_factory.mktemp("cluster")
    replicas = [Replica(name, folder) for name in "abc"]
    balancer = Balancer(program, replicas, folder)
    try:
        for replica in replicas:
            until(replica.is_ready, f"{replica.name} does not come up")
        yield Cluster(replicas, balancer)
    finally:
        balancer.close()
        for replica in replicas:
            replica.close()


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    """All three serve, and HAProxy knows it."""
    seen: set[str] = set()

    def all_serve() -> bool:
        seen.add(running.balancer.served_by())
        return seen >= {"a", "b", "c"}

    until(all_serve, "not all replicas are reached")
    running.meet()
    return running


def test_a_rolling_restart_fails_no_request(cluster: Cluster) -> None:
    statuses: list[int] = []
    asyncio.run(cluster.ask_during(lambda: statuses.extend([replica.restart() for replica in cluster.replicas])))
    cluster.told("rolling restart")
    assert statuses == [0, 0, 0]
    assert cluster.failed() == []


def test_a_killed_replica_fails_no_request_but_streams_that_it_had_begun(cluster: Cluster) -> None:
    victim = cluster.replicas[1]
    held: list[int] = []

    def kill() -> None:
        held.append(cluster.strike(victim, signal.SIGKILL))
        victim.process.wait()
        time.sleep(3)
        victim.start()
        until(victim.is_ready, "it does not come up")

    asyncio.run(cluster.ask_during(kill))
    failed, begun = cluster.failed_but_begun(victim)
    cluster.told(f"kill -9 with {held[0]} requests on it, {begun} streams cut")
    assert failed == []
    assert begun <= SURGE / 2


def test_a_frozen_replica_fails_no_request_but_streams_that_it_had_begun_and_comes_back(cluster: Cluster) -> None:
    victim = cluster.replicas[2]
    held: list[int] = []

    def freeze() -> None:
        held.append(cluster.strike(victim, signal.SIGSTOP))
        time.sleep(FROZEN)
        victim.process.send_signal(signal.SIGCONT)
        until(lambda: cluster.balancer.served_by() == victim.name, "it is not reached again")

    asyncio.run(cluster.ask_during(freeze))
    failed, begun = cluster.failed_but_begun(victim)
    cluster.told(f"frozen with {held[0]} requests on it, {begun} streams cut")
    assert failed == []
    assert begun <= SURGE / 2
