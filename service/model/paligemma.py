"""A PaliGemma ready to be served: the engine's ``LoadedModel``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from service.engine.generation import Prompt
from service.engine.runner import Vocabulary
from service.model.images import ImageReader, PixelFormat, levels_table
from service.model.loading import Checkpoint, CheckpointError
from service.model.mask_decoder import MaskDecoder, load_mask_decoder, paint
from service.model.prompt_encoder import PromptEncoder
from service.model.runner import TransformersRunner


@dataclass(frozen=True, slots=True)
class TableSize:
    """How many requests run at once, and the most text tokens each may have."""

    slots: int = 32
    max_prompt_tokens: int = 256
    max_tokens: int = 1024


class PaliGemma:
    """A checkpoint with its runner, its preprocessing and its mask decoder. Errors, at construction: CheckpointError."""

    def __init__(self, checkpoint: Checkpoint, size: TableSize, images: ImageReader) -> None:
        self.runner = TransformersRunner(checkpoint.model, size.slots, size.max_prompt_tokens + size.max_tokens)
        self.resolution = int(checkpoint.model.config.vision_config.image_size)
        self.max_tokens = size.max_tokens
        self._images = images
        self._encoder = PromptEncoder(checkpoint.processor.tokenizer, size.max_prompt_tokens)
        encoder = self._encoder
        self.vocabulary = Vocabulary(encoder.first_location, encoder.first_segmentation, encoder.decode, encoder.byte_tokens)
        settings = checkpoint.processor.image_processor
        levels = levels_table(settings.rescale_factor, settings.image_mean, settings.image_std)
        self._format = PixelFormat(self.resolution, levels, int(settings.resample))
        self._mask_decoder = None if checkpoint.mask_decoder is None else _mask_decoder(checkpoint.mask_decoder)
        self.paints_masks = self._mask_decoder is not None

    def prepare(self, image: bytes, prefix: str, locations_allowed: bool) -> Prompt:
        """See ``LoadedModel``. The pixels are float32 [3, side, side], exactly what transformers' Pillow processor makes."""
        tokens = self._encoder.encode(prefix, locations_allowed)
        picture = self._images.open(image)
        return Prompt(self._format.values(self._format.pixels(picture)), tokens, picture.size)

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
