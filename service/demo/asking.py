"""A checkpoint as anyone would use it: transformers' automatic classes and ``generate``. Nothing of the training is needed."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

from service.demo.codec import MaskCodec
from service.demo.family import MASK_DECODER
from service.demo.scenes import Corners
from service.model.enlarging import enlarge_patches

BINS = 1024
_OBJECT = re.compile(r"((?:<loc\d{4}>){4})((?:<seg\d{3}>){16})?([^;<]*)")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class FoundObject:
    """An object in an answer: its name, its box in parts of the side, and its 16 mask codes if it has them."""

    name: str
    box: Corners
    codes: tuple[int, ...] | None


def parse_objects(answer: str) -> list[FoundObject]:
    """The objects of an answer to ``detect`` or ``segment``, in order. Whatever is not written as an object is passed over."""
    found = []
    for bins, codes, name in _OBJECT.findall(answer):
        y_min, x_min, y_max, x_max = (int(number) / BINS for number in _NUMBER.findall(bins))
        numbers = tuple(int(number) for number in _NUMBER.findall(codes))
        found.append(FoundObject(name.strip(), (y_min, x_min, y_max, x_max), numbers or None))
    return found


class Checkpoint:
    """A folder with the model and its processor, and a mask decoder. Answers are greedy, in float32.

    ``enlarge``: for pictures so many times as large, without training.
    """

    def __init__(self, folder: Path, enlarge: int = 1, batch: int = 50) -> None:
        self._network = PaliGemmaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        self._processor = AutoProcessor.from_pretrained(folder)
        if enlarge > 1:
            enlarge_patches(self._network, enlarge)
            side = self._network.config.vision_config.image_size
            self._processor.image_processor.size = {"height": side, "width": side}
        self._batch = batch
        self._codec = MaskCodec().eval()
        self._codec.load_state_dict(load_file(MASK_DECODER), strict=False)

    @property
    def side(self) -> int:
        """Of its pictures, in pixels."""
        return int(self._network.config.vision_config.image_size)

    @torch.inference_mode()
    def ask(self, pictures: list[Image.Image], prefixes: list[str], most_tokens: int) -> list[str]:
        """An answer to each prefix about its picture, of at most that many tokens."""
        answers: list[str] = []
        for start in range(0, len(pictures), self._batch):
            part = slice(start, start + self._batch)
            texts = [f"<image>{prefix}" for prefix in prefixes[part]]
            given = self._processor(images=pictures[part], text=texts, return_tensors="pt", padding=True)
            written = self._network.generate(**given, max_new_tokens=most_tokens, do_sample=False)
            answers += self._processor.batch_decode(written[:, given["input_ids"].shape[1] :], skip_special_tokens=True)
        return answers

    def masks(self, codes: list[tuple[int, ...]]) -> NDArray[np.float32]:
        """[n, 64, 64] of [n] times 16 codes; positive is inside."""
        decoded: NDArray[np.float32] = self._codec.decode(torch.tensor(codes)).numpy()
        return decoded


def paint(mask: NDArray[np.float32], box: Corners, side: int) -> NDArray[np.bool_]:
    """A mask [64, 64] stretched into its box in a picture [side, side]; the box's edges are rounded to whole pixels."""
    y_min, x_min, y_max, x_max = (min(side, max(0, round(edge * side))) for edge in box)
    painted = np.zeros((side, side), np.bool_)
    if y_min < y_max and x_min < x_max:
        stretched = Image.fromarray(mask).resize((x_max - x_min, y_max - y_min), Image.Resampling.BILINEAR)
        painted[y_min:y_max, x_min:x_max] = np.asarray(stretched) > 0
    return painted
