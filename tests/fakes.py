"""A runner whose answers can be worked out by hand. It stands in for the model wherever the model is not what is tested."""

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.engine.generation import Generation, Picture, Prompt
from service.engine.lexicon import Lexicon
from service.engine.runner import Sampled, Vocabulary
from service.errors import OperatorError
from service.instances.shelf import AdapterShelf

END = 1


def expected_tokens(generation: Generation) -> tuple[int, ...]:
    """What the fake answers: it counts on from the prompt's last token, as often as the prompt's first token says, then ends."""
    first, last = generation.prompt.tokens[0], generation.prompt.tokens[-1]
    return tuple(last + 1 + step for step in range(min(first, generation.max_tokens)))


class PlainRunner:
    """The parts of a runner that have no part in its answers. Of adapters it keeps what it is told; a folder "bad" fits none."""

    def __init__(self) -> None:
        self.adapters: dict[int, object] = {}

    def device_memory(self) -> tuple[int, int] | None:
        """It uses none."""
        return None

    def read_adapter(self, folder: str) -> object:
        """See ``ModelRunner``."""
        if folder == "bad":
            raise OperatorError("bad: made for another base.")
        return folder

    def adopt(self, place: int, adapter: object) -> None:
        """See ``ModelRunner``."""
        self.adapters[place] = adapter

    def abandon(self, place: int) -> None:
        """See ``ModelRunner``."""
        self.adapters.pop(place, None)


def shelf(places: int = 0) -> AdapterShelf:
    """Takes any adapter but those called "bad"; those with "eyes" in their source change how pictures are seen."""

    def put(place: int, source: str, revision: str | None) -> bool:
        if source == "bad":
            raise OperatorError("bad: made for another base.")
        return "eyes" in source

    return AdapterShelf("fake", places, put, lambda place: None)


class CountingRunner(PlainRunner):
    """Counts on from each prompt's last token; the prompt's first token says how many tokens come before the end.

    ``log`` holds what was asked of it. Clear ``gate`` to hold every step until it is set again; ``before_step`` is called in each step with
    its generations, and before pictures are encoded or a row is moved with what that is about, and may raise. ``entered`` is set once a
    step has begun. Of generations that are ``unsure`` the probabilities are no numbers.
    """

    def __init__(self, slots: int = 4, image_tokens: int = 4) -> None:
        super().__init__()
        self.slots = slots
        self.image_tokens = image_tokens
        self.feature_bytes = 1000
        self.vocabulary_size = 4000
        self.end_tokens = frozenset({END})
        self.log: list[tuple[object, ...]] = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.before_step: Callable[[str, Sequence[Any]], None] = lambda phase, about: None
        self.unsure: Callable[[Generation], bool] = lambda generation: False
        self._rows: list[Generation | None] = [None] * slots
        self._written = [0] * slots

    def encode(self, pictures: Sequence[Picture]) -> list[object]:
        """Features tell the pixels they were made of."""
        self.before_step("encode", pictures)
        self.log.append(("encode", len(pictures)))
        return [("features", each.pixels) for each in pictures]

    def prefill(self, generations: Sequence[Generation], first_slot: int) -> Sampled:
        """See ``ModelRunner``."""
        self._enter("prefill", generations)
        if any(picture.features is None for generation in generations for picture in generation.prompt.pictures):
            raise AssertionError("a picture was not encoded before the prefill")
        self.log.append(("prefill", len(generations), first_slot))
        for slot, generation in enumerate(generations, start=first_slot):
            self._rows[slot], self._written[slot] = generation, 0
        return self._next(range(first_slot, first_slot + len(generations)))

    def decode(self, slots: range) -> Sampled:
        """See ``ModelRunner``."""
        self._enter("decode", [row for row in self._rows[slots.start : slots.stop] if row is not None])
        self.log.append(("decode", len(slots)))
        return self._next(slots)

    def move(self, source: int, target: int) -> None:
        """See ``ModelRunner``."""
        self.before_step("move", (source, target))
        self.log.append(("move", source, target))
        self._rows[target], self._written[target] = self._rows[source], self._written[source]
        self._rows[source] = None

    def _enter(self, phase: str, generations: Sequence[Generation]) -> None:
        self.entered.set()
        self.gate.wait()
        self.before_step(phase, generations)

    def _next(self, slots: range) -> Sampled:
        tokens = []
        probabilities = []
        for slot in slots:
            generation = self._rows[slot]
            if generation is None:
                raise AssertionError(f"slot {slot} is live but empty")
            count, last = generation.prompt.tokens[0], generation.prompt.tokens[-1]
            tokens.append(END if self._written[slot] >= count else last + 1 + self._written[slot])
            probabilities.append(math.nan if self.unsure(generation) else 0.5)
            self._written[slot] += 1
        return Sampled(tokens, probabilities)


LEXICON = Lexicon(2000, 3100, (END,), [(500, b"cat"), (501, b" cat"), (502, b" ;"), (503, b" ")])
"""Of the fake model: a few words."""


class FakeModel:
    """A ``LoadedModel`` around ``CountingRunner``: a prompt's first token is its number of words, every picture is 64 x 48."""

    def __init__(self, slots: int = 4, resolution: int = 224) -> None:
        self.runner = CountingRunner(slots)
        self.vocabulary = Vocabulary(2000, 3100, lambda tokens: " ".join(str(token) for token in tokens))
        self.resolution = resolution
        self.image_tokens = self.runner.image_tokens
        self.max_tokens = 1024
        self.paints_masks = True

    def picture(self, image: bytes, outline: tuple[float, float, float, float] | None = None) -> Picture:
        """The pixels are the bytes themselves."""
        return Picture(image, (64, 48))

    def tokens(self, prefix: str, locations_allowed: bool) -> tuple[int, ...]:
        """The answer will have as many tokens as the prefix has words, counting on from 100."""
        return (len(prefix.split()), 100)

    def paint_masks(
        self, codes: Sequence[tuple[int, ...]], boxes: Sequence[tuple[float, float, float, float]], image_size: tuple[int, int]
    ) -> Iterator[NDArray[np.bool_]]:
        """The whole picture, for every object."""
        return (np.ones((image_size[1], image_size[0]), dtype=np.bool_) for _ in codes)


def generation(answer: int, last: int = 100, max_tokens: int = 1000, deadline: float | None = None) -> Generation:
    """A generation that the fake answers with ``answer`` tokens, counting on from ``last``."""
    return Generation(Prompt((Picture(f"pixels of {last}", (64, 48)),), (answer, last)), max_tokens, deadline=deadline)


class SilentObserver:
    """An observer that keeps the last word it was told."""

    def __init__(self) -> None:
        self.queue: tuple[str, int, int] | None = None
        self.batches: list[tuple[str, int]] = []
        self.asked: list[bool] = []
        self.held_bytes = 0
        self.tokens = 0
        self.refused: list[str] = []
        self.accepted = 0
        self.ended: Counter[str] = Counter()

    def queue_changed(self, instance: str, waiting: int, running: int, tokens: int) -> None:
        """See ``EngineObserver``."""
        self.queue = (instance, waiting, running)
        self.tokens = tokens

    def request_refused(self, reason: str) -> None:
        """See ``EngineObserver``."""
        self.refused.append(reason)

    def generation_accepted(self, instance: str) -> None:
        """See ``EngineObserver``."""
        self.accepted += 1

    def generation_ended(self, instance: str, end: str) -> None:
        """See ``EngineObserver``."""
        self.ended[end] += 1

    def vision_cache_asked(self, instance: str, hit: bool) -> None:
        """See ``CacheObserver``."""
        self.asked.append(hit)

    def vision_cache_changed(self, instance: str, held_bytes: int) -> None:
        """See ``CacheObserver``."""
        self.held_bytes = held_bytes

    def batch_ran(self, instance: str, phase: str, size: int) -> None:
        """See ``EngineObserver``."""
        self.batches.append((phase, size))
