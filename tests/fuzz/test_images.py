"""A few seconds of the fuzzer of pictures."""

import random

from tests.fuzz.images import run


def test_threat_01_to_09_mutated_pictures_are_read_or_refused() -> None:
    seed = random.SystemRandom().randrange(2**32)
    directly, through_workers = run(seed, count=600, seconds=60)
    print(directly.summary("images"), through_workers.summary("in workers too"), sep="\n")
    assert set(directly.outcomes) == {"read", "InvalidImage", "ImageTooLarge"}
