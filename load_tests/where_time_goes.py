"""Where the time of a request goes: by process under load, and by operation in a step. The embedded model, 32 requests at once."""

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from load_tests.report import publish, table
from load_tests.rivals.figures import closed
from load_tests.rivals.servers import TICK, Server, free_port
from load_tests.rivals.workloads import take
from service.bench.http_connection import HttpServer
from service.bench.load_generator import ClosedLoop, run_closed
from service.building import blank_picture
from service.engine.generation import Generation, Prompt
from service.model.images import ImageLimits, ImageReader
from service.model.loading import Source, open_checkpoint, set_threads
from service.model.paligemma import PaliGemma, ServingOptions
from service.model.runner import PaliGemmaRunner
from service.planning import demo_settings

AT_ONCE, RAMP, REQUESTS = 32, 64, 1500
ROWS, REPEATS = 6, 50
PRODUCTS = ("mkldnn::_linear_pointwise", "aten::addmm", "aten::mm")
ATTENTION = "aten::_scaled_dot_product_flash_attention_for_cpu"


def processes() -> list[tuple[str, ...]]:
    """Processor time of each process of a server for a request, in milliseconds."""
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as client:
        port = free_port()
        server = Server("service.main", ["serve", "--grpc-port", "0", "--port", str(port)], port, "/readyz", Path(folder) / "log")
        try:
            server.wait_until_ready()
            for seed, count in ((1, 400), (2, REQUESTS)):
                raw = [request.ours(600_000) for request in take("embedded", seed, 1, RAMP + count + AT_ONCE)]
                before = _ticks()
                replies = client.submit(run_closed, ClosedLoop(HttpServer(port), AT_ONCE, RAMP, count, 600.0), raw).result()
            took = {process: 1000 * (ticks - before.get(process, 0)) / TICK / len(replies) for process, ticks in _ticks().items()}
            group = sorted((process for process in took if os.getpgid(process) == server.group), key=lambda process: -took[process])
        finally:
            server.stop()
    busy = [process for process in group if took[process] > 0.05]
    front = min(busy)
    rows = [
        ("(requests/s)", f"{closed(replies, RAMP, REQUESTS).rate:.0f}"),
        ("the process that reads and answers", f"{took[front]:.1f} ms"),
    ]
    workers = [took[process] for process in busy if process != front]
    return [*rows, (f"{len(workers)} processes that compute", f"{sum(workers):.1f} ms")]


def operations() -> list[tuple[str, ...]]:
    """Of each kind of step of ``ROWS`` requests on one thread: its time, and which part is products and attention."""
    set_threads(1)
    model = PaliGemma(open_checkpoint(Source(demo_settings()[0].source, device="cpu")), ServingOptions(ROWS), ImageReader(ImageLimits()))
    runner = model.make_runner(lambda: 1)
    tokens = model.tokens("detect purple star ; green square", False)
    wanted = [Generation(Prompt((model.picture(blank_picture()),), tokens), 64) for _ in range(ROWS)]
    pictures = [each.prompt.pictures[0] for each in wanted]
    for each, features in zip(wanted, runner.encode(pictures), strict=True):
        each.prompt.pictures[0].features = features
    return [
        _step("vision", lambda: runner.encode(pictures)),
        _step("prefill", lambda: runner.prefill(wanted, 0)),
        _step("decode", lambda: _decode(runner, wanted)),
    ]


def _decode(runner: PaliGemmaRunner, wanted: list[Generation]) -> None:
    runner.decode(range(len(wanted)))


def _step(name: str, work: Callable[[], object]) -> tuple[str, ...]:
    for _ in range(REPEATS // 5):
        work()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(REPEATS):
            work()
    spent = {each.key: each.self_cpu_time_total for each in seen.key_averages()}
    total = sum(spent.values())
    parts = (sum(spent.get(key, 0.0) for key in PRODUCTS) / total, spent.get(ATTENTION, 0.0) / total)
    return (f"{name}, {ROWS} rows", f"{total / 1000 / REPEATS:.2f} ms", f"{parts[0]:.0%}", f"{parts[1]:.0%}", f"{1 - sum(parts):.0%}")


def _ticks() -> dict[int, int]:
    ticks = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks[int(stat.parent.name)] = int(fields[11]) + int(fields[12])
    return ticks


def main() -> None:
    """Measure and write the results."""
    of_processes, of_operations = processes(), operations()
    text = "\n\n".join(
        [
            f"# Where the time of a request goes\n\nThe embedded model, {AT_ONCE} requests at once: processor time of a request.",
            table(("process", "processor time"), of_processes),
            "One step on one thread, by torch's profiler.",
            table(("step", "takes", "products of matrices", "attention", "all else"), of_operations),
        ]
    )
    publish(
        "where_time_goes",
        text,
        "make bench-profile",
        {"processes": of_processes, "operations": of_operations, "torch threads": torch.get_num_threads()},
    )


if __name__ == "__main__":
    main()
