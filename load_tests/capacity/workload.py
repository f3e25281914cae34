"""What is assumed of PaliGemma's traffic, and of the machine around an accelerator."""

import json
from collections.abc import Sequence

from load_tests.capacity.service_times import TEXT_TOKENS, Host, ReplicaTimes, computed
from load_tests.capacity.traffic import Kind
from load_tests.report import RESULTS

EFFICIENCY = 0.5
"""The part of the roofline that is reached. Assumed: no accelerator was measured."""

TARGET = 1.0
"""Seconds that 95 of 100 requests may take."""

MOST_LOST = 0.001
"""The share of requests that may be refused or late."""

CORES = 8
"""Processor cores beside an accelerator that decode pictures."""

MEGAPIXEL_SECONDS = 0.0145
"""Decoding and resizing a JPEG of a megapixel: 174 ms for twelve, the mean of ``make bench-scaled-decoding``'s whole ones at 224 pixels."""

LENGTHS: dict[str, tuple[float, Sequence[int]]] = {
    "caption": (0.35, range(8, 21)),
    "answer": (0.35, range(2, 6)),
    "detect": (0.20, (7, 13, 14, 20, 26)),
    "segment": (0.10, range(22, 27)),
}
"""Share of the requests, and tokens written with the end token: a sentence, a word or two, boxes, a box with its mask."""


def kinds(side: int) -> list[Kind]:
    """The mix, all with the prompt length that the computed figures are for."""
    return [Kind(task, share, f"paligemma-{side}", (TEXT_TOKENS,), written) for task, (share, written) in LENGTHS.items()]


def host() -> Host:
    """The front end's cost is what ``make bench-front-end`` measured; a picture's a megapixel's."""
    figures = json.loads((RESULTS / "front_end.json").read_text())["medians"]
    return Host(request=figures["detect, JSON"] / 1000, picture=MEGAPIXEL_SECONDS, cores=CORES)


def h100(side: int, efficiency: float = EFFICIENCY, cache_bytes: int = 256_000_000) -> ReplicaTimes:
    """A replica with one H100."""
    return computed(side, efficiency, host(), cache_bytes)
