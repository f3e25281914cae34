"""A PaliGemma ready to be served: the engine's ``LoadedModel``."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from service.engine.device import RunnerFacts
from service.engine.generation import Picture
from service.engine.lexicon import Lexicon
from service.engine.runner import Vocabulary
from service.model.images import Images, PixelFormat, outlined
from service.model.lexicon import build_lexicon
from service.model.loading import Checkpoint, CheckpointError, Weights, give_back_freed, load_model, quiet_progress
from service.model.mask_decoder import MaskDecoder, load_mask_decoder, paint
from service.model.prompt_encoder import PromptEncoder
from service.model.runner import PaliGemmaRunner, RunnerOptions, SlidingWindow
from service.model.vision import CHANNELS, Normalisation


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """How many requests run at once, the most text tokens each may have, and the rest of ``RunnerOptions``."""

    slots: int = 32
    max_prompt_tokens: int = 256
    max_tokens: int = 1024
    sliding_window: SlidingWindow = SlidingWindow.TRANSFORMERS
    compile: bool = False
    adapters: int = 0
    adapter_rank: int = 16
    images: int = 1

    def runner(self) -> RunnerOptions:
        """What of it the runner needs."""
        return RunnerOptions(
            self.slots,
            self.max_prompt_tokens + self.max_tokens,
            self.sliding_window,
            compile=self.compile,
            adapters=self.adapters,
            adapter_rank=self.adapter_rank,
            images=self.images,
        )


def make_runner(weights: Weights, normalisation: Normalisation, options: RunnerOptions, threads: Callable[[], int]) -> PaliGemmaRunner:
    """Load the weights where they are to be run. Errors: CheckpointError."""
    quiet_progress()
    runner = PaliGemmaRunner(load_model(weights), normalisation, options, threads)
    give_back_freed()
    return runner


class PaliGemma:
    """A checkpoint's preprocessing and its mask decoder; ``make_runner`` loads its weights. Errors, at construction: CheckpointError."""

    def __init__(self, checkpoint: Checkpoint, options: ServingOptions, images: Images) -> None:
        vision, settings = checkpoint.config.vision_config, checkpoint.processor.image_processor
        self.resolution = int(vision.image_size)
        self.image_tokens = (vision.image_size // vision.patch_size) ** 2
        self.max_tokens = options.max_tokens
        self._images = images
        self._tokenizer = checkpoint.processor.tokenizer
        self._encoder = PromptEncoder(self._tokenizer, options.max_prompt_tokens)
        self.vocabulary = Vocabulary(
            self._encoder.first_location, self._encoder.first_segmentation, self._encoder.decode, self._encoder.byte_tokens
        )
        self._format = PixelFormat(self.resolution, int(settings.resample))
        self._mask_decoder = None if checkpoint.mask_decoder is None else _mask_decoder(checkpoint.mask_decoder)
        self.paints_masks = self._mask_decoder is not None
        self.make_runner = partial(make_runner, checkpoint.weights, _normalisation(settings), options.runner())

    def lexicon(self, facts: RunnerFacts) -> Lexicon:
        """What grammars need to know of the tokens; takes up to half a second."""
        return build_lexicon(self._tokenizer, facts.end_tokens, facts.vocabulary_size)

    def picture(self, image: bytes, outline: tuple[float, float, float, float] | None = None) -> Picture:
        """See ``LoadedModel``. The pixels are uint8 [side, side, 3], exactly what transformers' Pillow processor resizes to.

        An outline is one red pixel wide in the resized picture, as WidgetCap was trained.
        """
        squeezed = self._images.squeezed(image, self._format)
        return Picture(squeezed.pixels if outline is None else outlined(squeezed.pixels, outline), squeezed.size)

    def tokens(self, prefix: str, locations_allowed: bool) -> tuple[int, ...]:
        """See ``LoadedModel``."""
        return self._encoder.encode(prefix, locations_allowed)

    @torch.inference_mode()
    def paint_masks(
        self, codes: Sequence[tuple[int, ...]], boxes: Sequence[tuple[float, float, float, float]], image_size: tuple[int, int]
    ) -> Iterator[NDArray[np.bool_]]:
        """See ``LoadedModel``."""
        if self._mask_decoder is None:
            raise ValueError("this checkpoint came without a mask decoder")
        return paint(self._mask_decoder.decode(codes), boxes, image_size)


def _mask_decoder(path: Path) -> MaskDecoder:
    try:
        return load_mask_decoder(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: the mask decoder cannot be read: {error}") from error


def _normalisation(settings: Any) -> Normalisation:
    """The image processor's; its mean and deviation are one number, or one for each channel."""
    mean, deviation = (np.broadcast_to(each, CHANNELS).tolist() for each in (settings.image_mean, settings.image_std))
    return Normalisation(float(settings.rescale_factor), tuple(mean), tuple(deviation))
