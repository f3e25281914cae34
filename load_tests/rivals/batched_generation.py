"""What the rivals share: the processor and transformers' ``generate()``, for one picture or a left-padded batch of them.

As fair to a batch as ``generate()`` allows: each row stops at its own end token or its own budget, and the batch ends with the last row
that writes. What no caller of ``generate()`` can do is put a new request in the place of a row that has stopped.
"""

import base64
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration, StoppingCriteria, StoppingCriteriaList


@dataclass(frozen=True, slots=True)
class Task:
    """One request, its picture decoded."""

    picture: Image.Image
    prompt: str
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Written:
    """A row's text, and what its batch cost: ``rows`` and ``steps`` of the batch, ``padding`` of the row's prompt, seconds of the batch."""

    text: str
    tokens: int
    rows: int
    steps: int
    padding: int
    prompt_tokens: int
    prefill_seconds: float
    seconds: float

    def fields(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def decode_picture(image: str | bytes) -> Image.Image:
    """From base64 or a file's bytes."""
    data = base64.b64decode(image) if isinstance(image, str) else image
    return Image.open(BytesIO(data)).convert("RGB")


class RowBudgets(StoppingCriteria):
    """Stops each row at its own budget; notes when the first token was there."""

    def __init__(self, prompt_length: int, budgets: Sequence[int]) -> None:
        self._prompt_length = prompt_length
        self._budgets = torch.tensor(budgets)
        self.first_token = 0.0

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        """Called after every token; which rows are done."""
        self.first_token = self.first_token or time.perf_counter()
        return input_ids.shape[1] - self._prompt_length >= self._budgets


class BatchedGeneration:
    """A model in float32 with its processor."""

    def __init__(self, source: str, threads: int = 0) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._model = PaliGemmaForConditionalGeneration.from_pretrained(source, dtype=torch.float32).eval()
        self._processor = AutoProcessor.from_pretrained(source)
        end = self._model.generation_config.eos_token_id
        self._end_tokens = set() if end is None else {end} if isinstance(end, int) else set(end)

    def inputs(self, tasks: Sequence[Task]) -> Any:
        """Tensors of a batch, padded on the left; ``token_type_ids`` make the prefix bidirectional."""
        texts = [f"<image>{task.prompt}" for task in tasks]
        inputs = self._processor(images=[task.picture for task in tasks], text=texts, return_tensors="pt", padding="longest")
        inputs.pop("labels", None)
        return inputs

    @torch.inference_mode()
    def generate(self, inputs: Any, budgets: Sequence[int]) -> list[Written]:
        """Greedy texts, in order."""
        began = time.perf_counter()
        length = inputs["input_ids"].shape[1]
        stopping = RowBudgets(length, budgets)
        output = self._model.generate(
            **inputs, max_new_tokens=max(budgets), do_sample=False, stopping_criteria=StoppingCriteriaList([stopping])
        )
        seconds = time.perf_counter() - began
        rows = [self._own(row[length:].tolist(), budget) for row, budget in zip(output, budgets, strict=True)]
        texts = self._processor.batch_decode(rows, skip_special_tokens=True)
        padding = (length - inputs["attention_mask"].sum(dim=1)).tolist()
        steps, prefill = output.shape[1] - length, stopping.first_token - began
        # The end token is a step that the row needed.
        return [
            Written(text, min(len(row) + 1, budget), len(rows), steps, pad, length - pad, prefill, seconds)
            for text, row, pad, budget in zip(texts, rows, padding, budgets, strict=True)
        ]

    def _own(self, tokens: list[int], budget: int) -> list[int]:
        """Without what stands behind the row's end."""
        own = tokens[:budget]
        end = next((place for place, token in enumerate(own) if token in self._end_tokens), len(own))
        return own[:end]
