"""The model as the layers above see it: a table of slots with four verbs, and what surrounds it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.engine.generation import Generation, Picture


@dataclass(frozen=True, slots=True)
class Sampled:
    """One chosen token for each row of a batch, and the probability the model gave it (NaN where the logits were not finite)."""

    tokens: list[int]
    probabilities: list[float]


class ModelRunner(Protocol):
    """Runs batches over a table of ``slots`` rows. Called from the device thread only.

    The live rows are always 0..n-1: a prefill appends rows behind them, ``move`` fills a hole with the last row.
    ``image_tokens`` is the number of tokens one picture takes, ``feature_bytes`` the size of its encoded features, ``vocabulary_size``
    the number of logits; ``end_tokens`` end a generation and are not part of it.
    """

    slots: int
    image_tokens: int
    feature_bytes: int
    vocabulary_size: int
    end_tokens: frozenset[int]

    def encode(self, pictures: Sequence[Picture]) -> Sequence[object]:
        """Run the vision tower over a batch of pictures; the features of each, ``feature_bytes`` large."""
        ...

    def prefill(self, generations: Sequence[Generation], first_slot: int) -> Sampled:
        """Write the prompts, whose pictures have their features, into the slots from ``first_slot`` on; choose the first token of each."""
        ...

    def decode(self, slots: range) -> Sampled:
        """One more token for each of ``slots``, after the token chosen for it last. A step that failed may be asked for again."""
        ...

    def move(self, source: int, target: int) -> None:
        """Let the row at ``source`` stand at ``target``; what was there is gone."""
        ...

    def device_memory(self) -> tuple[int, int] | None:
        """Bytes used of an accelerator's memory, by whomever, and all that it has; None on a CPU."""
        ...

    def read_adapter(self, folder: str) -> object:
        """An adapter that fits this model, for ``adopt``. On any thread. Errors: OperatorError."""
        ...

    def adopt(self, place: int, adapter: object) -> None:
        """Let rows that ask for ``place``, counted from 1, have an adapter. No row does yet."""
        ...

    def abandon(self, place: int) -> None:
        """Empty a place. No row asks for it any more."""
        ...


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Where the location and segmentation tokens of a checkpoint begin, and how its ids become text.

    ``decode`` keeps location and segmentation tokens as ``<loc0000>`` and ``<seg000>``.
    ``byte_tokens`` stand for one byte each, given with it: what a run of them means is not known before it ends.
    """

    first_location: int
    first_segmentation: int
    decode: Callable[[Sequence[int]], str]
    byte_tokens: Mapping[int, int] = field(default_factory=dict)


class LoadedModel(Protocol):
    """The work around a checkpoint's runner that needs the checkpoint's own files.

    ``resolution`` is the side in pixels that every picture is squeezed to, ``image_tokens`` the number of tokens it then takes.
    ``paints_masks`` is false where the checkpoint came without a mask decoder.
    """

    vocabulary: Vocabulary
    resolution: int
    image_tokens: int
    max_tokens: int
    paints_masks: bool

    def picture(self, image: bytes, outline: tuple[float, float, float, float] | None = None) -> Picture:
        """Decode and resize an image. ``outline``: a box (y_min, x_min, y_max, x_max), in parts of its sides, to draw into it.

        Slow: meant for a worker thread. Errors: InvalidImage, ImageTooLarge.
        """
        ...

    def tokens(self, prefix: str, locations_allowed: bool) -> tuple[int, ...]:
        """Encode a prefix. Errors: PromptTooLong, InvalidRequest (control tokens in the prefix)."""
        ...

    def paint_masks(
        self, codes: Sequence[tuple[int, ...]], boxes: Sequence[tuple[float, float, float, float]], image_size: tuple[int, int]
    ) -> Iterator[NDArray[np.bool_]]:
        """Decode 16 segmentation codes (0..127) per object and paint each into its box (x_min, y_min, x_max, y_max) of the picture.

        The masks are [height, width]. Slow: meant for a worker thread.
        """
        ...
