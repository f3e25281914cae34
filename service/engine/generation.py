"""What the engine is asked to do, and what it answers."""

from dataclasses import dataclass
from enum import StrEnum

from service.engine.grammar import Grammar


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen.

    ``temperature`` 0 is greedy. ``top_k`` 0 and ``top_p`` 1 keep the whole vocabulary. The same ``seed`` gives the same tokens in any
    company.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0


GREEDY = Sampling()


@dataclass(slots=True, eq=False, weakref_slot=True)
class Picture:
    """A picture made ready for the model; one object for all requests that show it, so that it is encoded once.

    ``pixels`` and ``features`` belong to the runner; features are put here where the runner is.
    ``size`` is (width, height) of the picture as sent, after EXIF orientation. ``number`` is its device's name for it.
    ``answered``: a generation about it has ended well. ``adapter``: the place of the adapter it is seen with, where that one changes how
    the model sees; 0: none.
    """

    pixels: object
    size: tuple[int, int]
    features: object = None
    number: int = 0
    answered: bool = False
    adapter: int = 0


@dataclass(frozen=True, slots=True)
class Prompt:
    """Pictures and a prefix made ready for the model. ``tokens`` is the text after the image tokens: bos, prefix, newline."""

    pictures: tuple[Picture, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Generation:
    """One prompt to be continued by at most ``max_tokens`` tokens, within ``grammar`` where there is one.

    ``deadline`` is on the engine's clock, in seconds. ``adapter`` is its place in the runner's table; 0: none.
    """

    prompt: Prompt
    max_tokens: int
    sampling: Sampling = GREEDY
    grammar: Grammar | None = None
    deadline: float | None = None
    adapter: int = 0


class FinishReason(StrEnum):
    """Why a generation ended: the model wrote its end token, or the token budget was used up."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Seconds a request spent in each stage. ``vision`` and ``prefill`` are the durations of the batches it was part of."""

    queue: float
    vision: float
    prefill: float
    decode: float


@dataclass(frozen=True, slots=True)
class Generated:
    """The continuation: token ids without the end token, the probability the model gave each, and why it ended.

    ``end_probability`` is the end token's own, None where the token budget ended the answer.
    """

    tokens: tuple[int, ...]
    probabilities: tuple[float, ...]
    end_probability: float | None
    finish_reason: FinishReason
    times: StageTimes
