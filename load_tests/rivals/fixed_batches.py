"""Rival "fixed": no server at all, ``generate()`` in batches of sixteen, one after the other, in a process of its own."""

import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from load_tests.rivals.workloads import Request
from service.bench.load_generator import Reply

BATCH = 16


class FixedBatches:
    """The process. It sleeps in ``recv`` while it has nothing to do."""

    def __init__(self, source: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, inner = context.Pipe()
        self._process = context.Process(target=_work, args=(inner, source, threads), daemon=True)
        self._process.start()

    def run(self, requests: Sequence[Request]) -> list[Reply]:
        """Answer all. A reply's times are those of its batch."""
        self._pipe.send([(request.image, request.prefix, request.max_tokens) for request in requests])
        replies: list[Reply] = self._pipe.recv()
        return replies

    def stop(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()


def _work(pipe: "Connection[Any, Any]", source: str, threads: int) -> None:
    from load_tests.rivals.batched_generation import BatchedGeneration, Task, decode_picture  # noqa: PLC0415

    generation = BatchedGeneration(source, threads)
    while (wanted := pipe.recv()) is not None:
        replies: list[Reply] = []
        began = time.perf_counter()
        for first in range(0, len(wanted), BATCH):
            sent = time.perf_counter() - began
            tasks = [Task(decode_picture(image), prompt, budget) for image, prompt, budget in wanted[first : first + BATCH]]
            written = generation.generate(generation.inputs(tasks), [task.max_tokens for task in tasks])
            ended = time.perf_counter() - began
            replies += [Reply(first + row, 200, sent, ended, each.fields()) for row, each in enumerate(written)]
        pipe.send(replies)
