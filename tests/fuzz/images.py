"""Mutated pictures: each is read whole, or refused in our own words, in bounded time and memory. ``make fuzz-images``."""

import os
import random
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

from service.errors import ImageTooLarge, InvalidImage
from service.model.image_workers import ImageWorkers
from service.model.images import ImageLimits, ImageReader, Images, PixelFormat
from tests.fuzz.campaign import MEBIBYTE, Campaign, arguments, finish
from tests.fuzz.mutations import mutated, seeds
from tests.pictures import LEAKS

LIMITS = ImageLimits(max_bytes=150_000, max_pixels=1_000_000)
INTO = PixelFormat(16)
SECONDS = 10.0
"""What one picture may take on a busy machine; those of this size take milliseconds."""
MOST_GROWTH = 64 * MEBIBYTE
IN_WORKERS = 0.1
"""The part of the cases that go through workers too."""

corpus = cache(seeds)


def outcome(images: Images, data: bytes) -> str:
    """What became of the bytes. Errors: AssertionError, where that is none of what may become of them."""
    started = time.monotonic()
    try:
        size = images.size(data)
    except (InvalidImage, ImageTooLarge) as error:
        size = None
        _check_message(error.message)
    try:
        squeezed = images.squeezed(data, INTO)
    except (InvalidImage, ImageTooLarge) as error:
        _check_message(error.message)
        read = type(error).__name__
    else:
        # A picture that can be decoded has a header that can be read, and says the same.
        assert squeezed.size == size, f"{size} is {squeezed.size}"
        assert squeezed.pixels.shape == (INTO.side, INTO.side, 3)
        assert 0 < squeezed.size[0] * squeezed.size[1] <= LIMITS.max_pixels
        read = "read"
    assert time.monotonic() - started < SECONDS
    return read


def _check_message(message: str) -> None:
    assert message.endswith("."), message
    assert not LEAKS.search(message), message


def in_this_process(chance: random.Random) -> str:
    """One case."""
    return outcome(ImageReader(LIMITS), mutated(corpus(), chance))


def alike(workers: ImageWorkers, chance: random.Random) -> str:
    """One case, in both ways; only a crash or too long a time may make them differ, and neither has been seen."""
    data = mutated(corpus(), chance)
    here, there = outcome(ImageReader(LIMITS), data), outcome(workers, data)
    assert here == there, f"{here} here, {there} in a worker"
    return here


@contextmanager
def _quiet_codecs() -> Iterator[None]:
    """They write to standard error what they think of each file."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def run(seed: int, count: int, seconds: float) -> Sequence[Campaign]:
    """Both campaigns. Errors: AssertionError."""
    directly, through_workers = Campaign(seed, MOST_GROWTH), Campaign(seed + 1, MOST_GROWTH)
    replaced: list[str] = []
    with _quiet_codecs(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        directly.run(in_this_process, count, seconds)
        workers = ImageWorkers(1, LIMITS, SECONDS, replaced.append)
        workers.start()
        try:
            through_workers.run(lambda chance: alike(workers, chance), int(IN_WORKERS * count), seconds)
        finally:
            workers.close()
    assert not replaced, replaced
    return directly, through_workers


def main() -> int:
    """Fuzz, and say what was done."""
    asked = arguments(__doc__, count=25_000, seconds=240)
    directly, through_workers = run(asked.seed, asked.count, asked.seconds)
    print(directly.summary("images"))
    print(through_workers.summary("images, in workers too"))
    return finish(asked.count, directly.cases)


if __name__ == "__main__":
    sys.exit(main())
