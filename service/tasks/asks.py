"""What a request asks of the tasks, and what is the same for every request of a task."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from service.engine.generation import GREEDY, Sampling
from service.errors import FieldProblem, InvalidRequest
from service.tasks.located import Locator, Reading
from service.tasks.parsing import LOCATIONS
from service.tasks.ports import Instance
from service.tasks.prompts import PromptStyle
from service.tasks.results import Box, ImageSize, MaskFormat
from service.tasks.streaming import EventListener

MAX_TOKENS = 1024
"""The largest budget a caller may ask for; an instance may allow less."""


@dataclass(frozen=True, slots=True)
class Options:
    """What every task may be asked besides its own fields.

    ``timeout`` is in seconds; None stands for the service's default. ``listener`` is told of the answer while it is being written.
    ``pieces``: the answer, and the events of its text, spell their tokens. ``further`` are the pictures after the first, for checkpoints
    that take several.
    """

    model: str | None = None
    resolution: int | str | None = None
    adapter: str | None = None
    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    timeout: float | None = None
    strict: bool = False
    listener: EventListener | None = None
    pieces: bool = False
    further: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """What is the same for every request of a task.

    ``max_tokens`` is the budget where the caller gives none. ``region`` tasks put a box of the picture into the prefix.
    """

    name: str
    max_tokens: int
    reading: Reading = Reading.TEXT
    locations_allowed: bool = False
    region: bool = False


CAPTION = Task("caption", 64)
ANSWER = Task("answer", 32)
DETECT = Task("detect", 256, Reading.BOXES)
SEGMENT = Task("segment", 512, Reading.MASKS)
READ = Task("read", 128)
CAPTION_REGION = Task("caption-region", 32, locations_allowed=True, region=True)
GENERATE = Task("generate", 128, Reading.WHATEVER, locations_allowed=True)
ALL_TASKS = (CAPTION, ANSWER, DETECT, SEGMENT, READ, CAPTION_REGION, GENERATE)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. ``prefix`` waits for the picture's size, because a region is given in its pixels, and for the instance's style.

    ``name`` is that of the object where one is asked for.
    """

    task: Task
    image: bytes
    options: Options
    prefix: Callable[[ImageSize, PromptStyle], str]
    mask_format: MaskFormat = MaskFormat.RLE
    name: str = ""
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose instance is known; ``size`` is that of its picture where it is needed."""

    ask: Ask
    prefix: str
    size: ImageSize


def check_pictures(ask: Ask, instance: Instance) -> None:
    """Errors: InvalidRequest where there are more pictures than the instance takes."""
    count = 1 + len(ask.options.further)
    if count > instance.max_images:
        taken = "one picture" if instance.max_images == 1 else f"at most {instance.max_images} pictures"
        problem = FieldProblem("images", f"{instance.name} takes {taken} of a request, got {count}")
        raise InvalidRequest("There are too many pictures.", (problem,))


def locator_of(instance: Instance, ask: Ask, size: tuple[int, int]) -> Locator:
    """What puts the answer's objects into the first picture."""
    refers = ask.task is SEGMENT and PromptStyle(instance.prompt_style) is PromptStyle.REFERRING
    whole, name = (LOCATIONS - 1, ask.name) if refers else (LOCATIONS, "")
    return Locator(instance.model, size, ask.task.reading, ask.mask_format, whole, name)


def sampling_of(options: Options) -> Sampling:
    """How tokens are chosen; a seed is drawn where none is given."""
    if options.temperature == 0:
        return GREEDY
    seed = secrets.randbits(63) if options.seed is None else options.seed
    return Sampling(options.temperature, options.top_p, options.top_k, seed)


def token_budget(ask: Ask, instance: Instance) -> int:
    """Tokens to write at most. Errors: InvalidRequest where the caller asks for more than the instance allows."""
    most = instance.model.max_tokens
    if ask.options.max_tokens is None:
        return min(ask.task.max_tokens, most)
    if not 1 <= ask.options.max_tokens <= most:
        problem = FieldProblem("max_tokens", f"1..{most} is what {instance.name} allows")
        raise InvalidRequest("The token budget is out of range.", (problem,))
    return ask.options.max_tokens
