"""A PaliGemma ready to be served: the engine's ``LoadedModel``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from service.engine.generation import Picture
from service.engine.runner import Vocabulary
from service.model.images import ImageReader, PixelFormat, levels_table
from service.model.loading import Checkpoint, CheckpointError
from service.model.mask_decoder import MaskDecoder, load_mask_decoder, paint
from service.model.prompt_encoder import PromptEncoder
from service.model.runner import PaliGemmaRunner, RunnerOptions, SlidingWindow


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """How many requests run at once, the most text tokens each may have, and the rest of ``RunnerOptions``."""

    slots: int = 32
    max_prompt_tokens: int = 256
    max_tokens: int = 1024
    sliding_window: SlidingWindow = SlidingWindow.TRANSFORMERS
    compile: bool = False

    def runner(self) -> RunnerOptions:
        """What of it the runner needs."""
        return RunnerOptions(self.slots, self.max_prompt_tokens + self.max_tokens, self.sliding_window, compile=self.compile)


class PaliGemma:
    """A checkpoint with its runner, its preprocessing and its mask decoder. Errors, at construction: CheckpointError."""

    def __init__(self, checkpoint: Checkpoint, options: ServingOptions, images: ImageReader) -> None:
        self.runner = PaliGemmaRunner(checkpoint.model, options.runner())
        self.resolution = int(checkpoint.model.config.vision_config.image_size)
        self.max_tokens = options.max_tokens
        self._images = images
        self._encoder = PromptEncoder(checkpoint.processor.tokenizer, options.max_prompt_tokens)
        self.vocabulary = Vocabulary(self._encoder.first_location, self._encoder.first_segmentation, self._encoder.decode)
        settings = checkpoint.processor.image_processor
        levels = levels_table(settings.rescale_factor, settings.image_mean, settings.image_std)
        self._format = PixelFormat(self.resolution, levels, int(settings.resample))
        self._mask_decoder = None if checkpoint.mask_decoder is None else _mask_decoder(checkpoint.mask_decoder)
        self.paints_masks = self._mask_decoder is not None

    def picture(self, image: bytes) -> Picture:
        """See ``LoadedModel``. The pixels are float32 [3, side, side], exactly what transformers' Pillow processor makes."""
        opened = self._images.open(image)
        return Picture(self._format.values(self._format.pixels(opened)), opened.size)

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
