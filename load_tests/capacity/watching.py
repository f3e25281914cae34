"""What else a machine did while something was measured on it."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

from load_tests.rivals.contest import Disturbance
from load_tests.rivals.heartbeat import STANDSTILL, Heartbeat
from load_tests.rivals.servers import Server, cpu_seconds, machine_seconds

T = TypeVar("T")

MOST_OTHERS = 0.2
"""Cores that strangers may keep busy in a run that counts: on two cores they take it from the server."""

TRIES = 3


def watched(server: Server, work: Callable[[], T]) -> tuple[T, Disturbance]:
    """What ``work`` returns, and what strangers did meanwhile. The server, this process and its children are none."""
    own, (machine, stolen), began = _own(server), machine_seconds(), time.monotonic()
    with Heartbeat() as heartbeat:
        done = work()
    seconds, taken = time.monotonic() - began, _own(server) - own
    machine_after, stolen_after = machine_seconds()
    others = max(0.0, machine_after - machine - taken) / seconds
    return done, Disturbance(heartbeat.longest, others, (stolen_after - stolen) / seconds, taken)


def is_disturbed(seen: Disturbance) -> bool:
    """Whether it should be measured again."""
    return seen.standstill > STANDSTILL or seen.others > MOST_OTHERS


def _own(server: Server) -> float:
    return cpu_seconds(os.getpgrp()) + server.cpu_seconds()
