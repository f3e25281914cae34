"""``generate()`` as one uses it well: the processor, left padding, ``token_type_ids``, greedy, rows that end each at its own budget."""

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import torch
from PIL import Image
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration, StoppingCriteria, StoppingCriteriaList


class OwnBudgets(StoppingCriteria):  # type: ignore[misc]
    """Ends each row at its own number of new tokens."""

    def __init__(self, prompt: int, budgets: Sequence[int]) -> None:
        self._prompt, self._budgets = prompt, torch.tensor(budgets)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Which rows are done: bool [rows]."""
        return input_ids.shape[1] - self._prompt >= self._budgets


class Padded:
    """A model and its processor, in float32 with torch's own number of threads."""

    def __init__(self, folder: str) -> None:
        self._model = PaliGemmaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        self._processor = AutoProcessor.from_pretrained(folder)
        self._ends = self._model.generation_config.eos_token_id

    @staticmethod
    def read(body: dict[str, Any]) -> tuple[Image.Image, str, int]:
        """Decode a request."""
        picture = Image.open(BytesIO(base64.b64decode(body["image"]))).convert("RGB")
        return picture, body["prompt"], body["max_tokens"]

    @torch.inference_mode()
    def answer(self, batch: Sequence[tuple[Image.Image, str, int]]) -> list[str]:
        """The texts of a batch."""
        pictures, prompts, budgets = zip(*batch, strict=True)
        inputs = self._processor(images=list(pictures), text=[f"<image>{each}" for each in prompts], padding=True, return_tensors="pt")
        inputs.pop("labels", None)
        prompt = inputs["input_ids"].shape[1]
        criteria = StoppingCriteriaList([OwnBudgets(prompt, budgets)])
        output = self._model.generate(**inputs, max_new_tokens=max(budgets), do_sample=False, stopping_criteria=criteria)
        texts = []
        for row, budget in zip(output[:, prompt:], budgets, strict=True):
            texts.append(self._processor.decode(row[:budget], skip_special_tokens=True, clean_up_tokenization_spaces=False))
        return texts
