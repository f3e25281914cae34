"""Measures the service times of the embedded models through the real server: its steps, and what the process before them takes."""

import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median

import numpy as np

from load_tests.capacity.recording import Step, recorded
from load_tests.capacity.service_times import Cost, FrontTimes, InstanceTimes, ReplicaTimes
from load_tests.capacity.traffic import Kind
from load_tests.capacity.watching import TRIES, is_disturbed, watched
from load_tests.rivals.contest import Disturbance
from load_tests.rivals.figures import closed
from load_tests.rivals.servers import TICK, Server, free_port
from load_tests.rivals.workloads import Request, take
from service.bench.http_connection import HttpServer
from service.bench.load_generator import ClosedLoop, Reply, run_closed
from service.planning import ON_CPU

SMALLER, LARGER = "shapes-224", "shapes-448"
"""Of five requests four go to the first."""

PATIENCE_MS = 600_000
AT_ONCE, ALONE = 32, 1
LONGEST_GAP = 0.002
"""Seconds between two steps of one busy worker; whoever pauses longer had nothing to do."""

LOSS_OF_A_STOPPED_CORE = 5.0
"""A step that takes so many times the median of its like was held up by somebody else, and is left out."""


@dataclass(slots=True)
class Measured:
    """Everything about one round: the service times, the kinds of requests with their lengths, and requests a second at full load.

    ``disturbance``: what else the machine did.
    """

    times: ReplicaTimes
    kinds: list[Kind]
    capacity: float
    disturbance: Disturbance


def mixed(seed: int, number: int) -> list[Request]:
    """Requests of all tasks to both instances."""
    asked = enumerate(take("embedded", seed, 1, number))
    return [replace(each, fields=each.fields | {"model": LARGER if index % 5 == 4 else SMALLER}) for index, each in asked]


def kind_of(reply: Reply) -> str:
    """Task and instance."""
    return f"{reply.fields['task']} {reply.fields['model']}"


def calibrate(seed: int, seconds: float = 12.0) -> Measured:
    """One round, again where the machine was disturbed; of the tries the one that was disturbed least."""
    tries: list[Measured] = []
    while not tries or (is_disturbed(tries[-1].disturbance) and len(tries) < TRIES):
        tries.append(_calibrate(seed + 10 * len(tries), seconds))
    return min(tries, key=lambda each: each.disturbance.amount)


def _calibrate(seed: int, seconds: float) -> Measured:
    """One request at once for what the way costs, then ``AT_ONCE`` for the steps. About three times ``seconds``."""
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as client:
        port = free_port()
        arguments = [folder, "serve", "--grpc-port", "0", "--port", str(port)]
        server = Server("load_tests.capacity.recording", arguments, port, "/readyz", Path(folder) / "log")
        try:
            server.wait_until_ready()
            _ask(client, port, AT_ONCE, mixed(seed, 150), 5.0)
            began = time.monotonic()
            alone, _ = watched(server, lambda: _ask(client, port, ALONE, mixed(seed + 1, 2000), seconds))
            before = _front_seconds(server.group)
            loaded, disturbance = watched(server, lambda: _ask(client, port, AT_ONCE, mixed(seed + 2, 8000), 2 * seconds))
            front = (_front_seconds(server.group) - before) / len(loaded)
        finally:
            server.stop()
        steps = recorded(Path(folder))
    ramp = AT_ONCE
    capacity = closed(loaded, ramp, len(loaded) - 2 * AT_ONCE).rate
    return Measured(_times([each for each in steps if each.began > began], alone, front), kinds([*alone, *loaded]), capacity, disturbance)


def _ask(client: ProcessPoolExecutor, port: int, at_once: int, requests: Sequence[Request], seconds: float) -> list[Reply]:
    """Replies of a closed loop of so many seconds, or until there are no requests any more. Errors: RuntimeError where one is no answer."""
    loop = ClosedLoop(HttpServer(port), at_once, 0, len(requests) - at_once, seconds)
    replies = client.submit(run_closed, loop, [each.ours(PATIENCE_MS) for each in requests]).result()
    failed = [reply for reply in replies if reply.status != 200]
    if failed:
        raise RuntimeError(f"the server answers {failed[0].status} {failed[0].fields}")
    return replies


def _front_seconds(group: int) -> float:
    """Processor time of the process that reads and answers, which leads the server's group."""
    fields = Path(f"/proc/{group}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def kinds(replies: Sequence[Reply]) -> list[Kind]:
    """What was asked, with the lengths that were seen."""
    found: dict[str, list[Reply]] = {}
    for reply in replies:
        found.setdefault(kind_of(reply), []).append(reply)
    made = []
    for name, each in sorted(found.items()):
        usage = [(reply.fields["usage"], reply.fields["finish_reason"]) for reply in each]
        written = [used["completion_tokens"] + (reason == "stop") for used, reason in usage]
        made.append(Kind(name, len(each) / len(replies), each[0].fields["model"], [used["prompt_tokens"] for used, _ in usage], written))
    return made


def _times(steps: Sequence[Step], alone: Sequence[Reply], front: float) -> ReplicaTimes:
    """``front``: processor seconds of a request at full load, by the process that reads and answers."""
    gap = median(
        later.began - step.began - step.seconds
        for process in {step.process for step in steps}
        for step, later in pairwise([each for each in steps if each.process == process])
        if later.began - step.began - step.seconds < LONGEST_GAP
    )
    instances = {}
    for name in sorted({step.instance for step in steps}):
        of_this = [step for step in steps if step.instance == name]
        images = next(reply.fields["usage"]["image_tokens"] for reply in alone if reply.fields["model"] == name)
        vision, prefill, decode = (
            fitted([(_size(step), step.seconds) for step in of_this if step.phase == phase]) for phase in ("vision", "prefill", "decode")
        )
        prefill, decode = (Cost(cost.fixed + gap, cost.each) for cost in (prefill, decode))
        instances[name] = InstanceTimes(images, ON_CPU.slots, ON_CPU.prefill_tokens, 0, vision, prefill, decode)
    workers = len({step.process for step in steps})
    return ReplicaTimes("measured", _front(alone, front), instances, workers, 256, {"seconds between two steps": gap, "steps": len(steps)})


def _size(step: Step) -> int:
    return step.tokens if step.phase == "prefill" else step.rows


def fitted(points: Sequence[tuple[int, float]]) -> Cost:
    """The straight line through steps of different sizes, by least squares; neither part is negative."""
    usual = {size: median(seconds for other, seconds in points if other == size) for size in {size for size, _ in points}}
    kept = [(size, seconds) for size, seconds in points if seconds < LOSS_OF_A_STOPPED_CORE * usual[size]]
    sizes, seconds = (np.array(column, dtype=float) for column in zip(*kept, strict=True))
    if len(usual) == 1:
        return Cost(0.0, float(seconds.mean() / sizes[0]))
    each, fixed = np.polyfit(sizes, seconds, 1)
    if fixed < 0:
        return Cost(0.0, float((sizes * seconds).sum() / (sizes**2).sum()))
    return Cost(float(fixed), max(0.0, float(each)))


def _front(alone: Sequence[Reply], busy: float) -> FrontTimes:
    """What a lone request spends outside the engine, by kind, is split into processor time, which adds up to ``busy``, and waiting.

    ``preprocess`` is before the engine; what is left of ``total`` is after it; reading and writing is half before, half after.
    """
    parts: dict[str, list[tuple[float, float, float]]] = {}
    for reply in alone:
        took = {phase: milliseconds / 1000 for phase, milliseconds in reply.fields["timings_ms"].items()}
        wire = reply.latency - took["total"]
        after = took["total"] - sum(took[phase] for phase in ("queue", "preprocess", "vision", "prefill", "decode"))
        parts.setdefault(kind_of(reply), []).append((took["preprocess"] + wire / 2, after + wire / 2, took["queue"]))
    outside = mean(one[0] + one[1] for each in parts.values() for one in each)
    share = min(1.0, busy / outside)
    before = {kind: share * median(one[0] for one in each) for kind, each in parts.items()}
    after = {kind: share * median(one[1] for one in each) for kind, each in parts.items()}
    every = {"": busy / 2}
    queued = median(one[2] for each in parts.values() for one in each)
    hop = queued + (1 - share) * outside
    return FrontTimes(before | every, after | every, 0.0, busy / 4, hop)
