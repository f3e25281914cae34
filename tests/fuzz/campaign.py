"""What every fuzzer needs: a seed, a bound in time, a count, and an eye on memory."""

import argparse
import gc
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

MEBIBYTE = 1 << 20


class Campaign:
    """Runs cases until there are enough, or the time is over. Each case has a seed of its own, made of the campaign's and its number.

    ``outcomes`` counts what became of the cases. What a case raises ends the campaign, with the seed that brings it back.
    """

    def __init__(self, seed: int, most_growth: int) -> None:
        """``most_growth``: bytes of resident memory by which the process may grow after the first tenth of the cases."""
        self.seed = seed
        self.cases = 0
        self.seconds = 0.0
        self.growth = 0
        self.outcomes: Counter[str] = Counter()
        self._most_growth = most_growth

    def run(self, case: Callable[[random.Random], str], count: int, seconds: float) -> None:
        """``case`` returns a word for its outcome."""
        started = time.monotonic()
        settled = 0
        for number in range(count):
            if number % 256 == 0 and time.monotonic() - started > seconds:
                break
            if number == count // 10:
                settled = resident_bytes()
            chance = random.Random(f"{self.seed}-{number}")
            try:
                self.outcomes[case(chance)] += 1
            except Exception as error:
                raise AssertionError(f"case {number} of seed {self.seed}") from error
            self.cases += 1
        self.seconds += time.monotonic() - started
        gc.collect()
        self.growth = resident_bytes() - settled if settled else 0
        if self.growth > self._most_growth:
            raise AssertionError(f"memory grew by {self.growth} bytes, seed {self.seed}")

    def summary(self, name: str) -> str:
        """One line, for people."""
        outcomes = ", ".join(f"{word} {count}" for word, count in self.outcomes.most_common())
        return (
            f"{name}: {self.cases} cases in {self.seconds:.0f} s, seed {self.seed}, memory {self.growth / MEBIBYTE:+.1f} MiB ({outcomes})"
        )


def resident_bytes() -> int:
    """Memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def arguments(description: str | None, count: int, seconds: float) -> argparse.Namespace:
    """``--count``, ``--seconds`` and ``--seed`` of a fuzzer's command line; a seed that was not given is a new one."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--seconds", type=float, default=seconds)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    return parser.parse_args()


def finish(wanted: int, done: int) -> int:
    """The exit status: too few cases in the time are a failure too."""
    if done < wanted:
        print(f"only {done} of {wanted} cases in the time", file=sys.stderr)
    return int(done < wanted)
