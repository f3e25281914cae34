"""The real server, whose runners write down each step: ``python -m load_tests.capacity.recording FOLDER serve …``."""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from service.engine.device import MakeRunner, RunnerFacts
from service.engine.engine import Engine
from service.engine.generation import Generation, Picture
from service.engine.runner import ModelRunner, Sampled
from service.main import main

T = TypeVar("T")


class Step(NamedTuple):
    """One step: when it began (monotonic) and how long it took, in seconds; ``tokens`` of a prefill, image tokens included."""

    process: int
    instance: str
    phase: str
    rows: int
    tokens: int
    began: float
    seconds: float


class RecordingRunner:
    """Passes everything on."""

    def __init__(self, runner: ModelRunner, instance: str, folder: Path) -> None:
        self._runner = runner
        self._instance = instance
        # Unbuffered: a worker process ends without closing its files.
        self._file = (folder / f"{os.getpid()}-{instance}.jsonl").open("ab", buffering=0)
        self.slots = runner.slots
        self.image_tokens = runner.image_tokens
        self.feature_bytes = runner.feature_bytes
        self.vocabulary_size = runner.vocabulary_size
        self.end_tokens = runner.end_tokens

    def encode(self, pictures: Sequence[Picture]) -> Sequence[object]:
        return self._timed("vision", len(pictures), 0, lambda: self._runner.encode(pictures))

    def prefill(self, generations: Sequence[Generation], first_slot: int) -> Sampled:
        tokens = sum(self.image_tokens * len(each.prompt.pictures) + len(each.prompt.tokens) for each in generations)
        return self._timed("prefill", len(generations), tokens, lambda: self._runner.prefill(generations, first_slot))

    def decode(self, slots: range) -> Sampled:
        return self._timed("decode", len(slots), 0, lambda: self._runner.decode(slots))

    def _timed(self, phase: str, rows: int, tokens: int, work: Callable[[], T]) -> T:
        began = time.monotonic()
        done = work()
        step = Step(os.getpid(), self._instance, phase, rows, tokens, began, time.monotonic() - began)
        self._file.write(json.dumps(step).encode() + b"\n")
        return done

    def move(self, source: int, target: int) -> None:
        self._runner.move(source, target)

    def device_memory(self) -> tuple[int, int] | None:
        return self._runner.device_memory()

    def read_adapter(self, folder: str) -> object:
        return self._runner.read_adapter(folder)

    def adopt(self, place: int, adapter: object) -> None:
        self._runner.adopt(place, adapter)

    def abandon(self, place: int) -> None:
        self._runner.abandon(place)


@dataclass(frozen=True, slots=True)
class Recorded:
    """Makes a runner, wherever it is sent to, that writes into ``folder``."""

    make: MakeRunner
    instance: str
    folder: Path

    def __call__(self, threads: Callable[[], int]) -> ModelRunner:
        return RecordingRunner(self.make(threads), self.instance, self.folder)


def recorded(folder: Path) -> list[Step]:
    """All steps that a server wrote, in order of their beginnings."""
    lines = [line for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    return sorted((Step(*json.loads(line)) for line in lines), key=lambda step: step.began)


def record_into(folder: Path) -> None:
    """From now on every engine's runner is recorded."""
    load = Engine.load

    def load_recorded(engine: Engine, make: MakeRunner) -> RunnerFacts:
        return load(engine, Recorded(make, engine._name, folder))

    setattr(Engine, "load", load_recorded)  # noqa: B010


if __name__ == "__main__":
    record_into(Path(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
