"""A decode step as CUDA graphs: one launch instead of several hundred."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

WARMING_CALLS = 3
FIRST_READ = 64
"""The smallest decode graph reads the image and this many positions more."""

Step = Callable[[int, int], Tensor]
"""Logits [rows, vocabulary] of the slots 0..rows-1, which attend to ``read`` positions; reads and writes the same memory at each call."""


class DecodeGraphs:
    """Recorded steps by rows and positions read. A step runs in the smallest graph that holds it; its surplus rows compute for nobody."""

    def __init__(self, step: Step, rows: list[int], reads: list[int]) -> None:
        self._rows, self._reads = rows, reads
        self._graphs: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        pool: Any = None
        # The largest first: the smaller ones then fit into the memory it took.
        for row_count in reversed(rows):
            for read in reversed(reads):
                graph, logits = _record(step, row_count, read, pool)
                pool = pool or graph.pool()
                self._graphs[row_count, read] = graph, logits
        logger.info("recorded %d decode graphs", len(self._graphs))

    def run(self, rows: int, read: int) -> Tensor:
        """Logits [rows, vocabulary], valid until the next run."""
        graph, logits = self._graphs[least(self._rows, rows), least(self._reads, read)]
        graph.replay()
        return logits[:rows]


def _record(step: Step, rows: int, read: int, pool: Any) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARMING_CALLS):
            step(rows, read)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        logits = step(rows, read)
    return graph, logits


def least(sizes: list[int], wanted: int) -> int:
    """The least of the ascending ``sizes`` that holds ``wanted``. Errors: ValueError where none does."""
    for size in sizes:
        if size >= wanted:
            return size
    raise ValueError(f"{wanted} is more than the largest, {sizes[-1]}")


def read_sizes(image_tokens: int, length: int) -> list[int]:
    """Positions that recorded steps read, of slots of ``length``; ``image_tokens`` are those of one picture."""
    return doubling(min(image_tokens + FIRST_READ, length), length)


def doubling(first: int, last: int) -> list[int]:
    """``first``, twice that, and so on, and ``last``."""
    sizes = []
    while first < last:
        sizes.append(first)
        first *= 2
    return [*sizes, last]
