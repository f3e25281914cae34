"""The engine's ``ModelRunner`` over transformers' own, unmodified PaliGemma modules."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor
from transformers import PaliGemmaForConditionalGeneration

from service.engine.generation import GREEDY, Generation
from service.engine.runner import Sampled
from service.model import attention
from service.model.sampling import Sampler, sample
from service.model.slot_cache import SlotCache

READ_STEP = 32
"""Positions read in a decode step are rounded up to this, so that shapes repeat."""


class TransformersRunner:
    """Slots over a static KV table. What the modules see in each phase:

        prefill   image image … bos prefix newline (padding)     every real key, for every query: the prefix is bidirectional
        decode    the last token                                 every key its row has written so far: the suffix is causal

    So the mask of either phase depends on the key alone. Positions count from 1, as transformers' PaliGemma does.
    In Gemma 2's sliding layers a decode step sees the last ``sliding_window`` keys; the prefill sees all, as in transformers.
    """

    def __init__(self, model: PaliGemmaForConditionalGeneration, slots: int, max_text_tokens: int) -> None:
        """``max_text_tokens``: prompt and answer together, per slot."""
        attention.register()
        # The masks are ours and the vision tower's attention is plain.
        model.set_attn_implementation({"text_config": attention.NAME, "vision_config": "sdpa"})
        self._model = model.eval()
        text, vision = model.config.text_config, model.config.vision_config
        self._device: torch.device = model.device
        self._dtype: torch.dtype = model.dtype
        self.slots = slots
        self.image_tokens = (vision.image_size // vision.patch_size) ** 2
        self.end_tokens = _end_tokens(model)
        self._length = self.image_tokens + max_text_tokens
        self._window = cast("int | None", text.sliding_window) if text.model_type == "gemma2" else None
        self._softcap = cast("float | None", getattr(text, "final_logit_softcapping", None))
        self._cache = SlotCache(text, slots, self._length, self._dtype, self._device)
        self._counting = torch.arange(max(slots, self._length) + 1, device=self._device)
        self._tokens = torch.zeros(slots, dtype=torch.long, device=self._device)
        self._lengths = [0] * slots
        self._samplers = [Sampler(GREEDY) for _ in range(slots)]

    @torch.inference_mode()
    def encode(self, generations: Sequence[Generation]) -> Tensor:
        """Image features [images, image tokens, hidden size] of pixels [3, side, side] each."""
        pixels = np.stack([cast("np.ndarray", generation.prompt.pixels) for generation in generations])
        features = self._model.get_image_features(torch.from_numpy(pixels).to(self._device, self._dtype))
        return cast(Tensor, features.pooler_output)

    @torch.inference_mode()
    def prefill(self, generations: Sequence[Generation], features: object, first_slot: int) -> Sampled:
        """See ``ModelRunner``. Prompts of different lengths are padded on the right; padding is masked and later overwritten."""
        texts = [generation.prompt.tokens for generation in generations]
        longest = max(len(text) for text in texts)
        ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts], device=self._device)
        embedded = torch.cat([cast(Tensor, features).to(self._dtype), self._model.get_input_embeddings()(ids)], dim=1)
        rows, positions = embedded.shape[:2]
        lengths = torch.tensor([self.image_tokens + len(text) for text in texts], device=self._device)
        mask = None
        if any(len(text) < longest for text in texts):
            mask = (self._counting[:positions] < lengths[:, None])[:, None, None]
        plan = self._cache.plan
        plan.prefilling, plan.first_row, plan.rows, plan.read = True, first_slot, rows, positions
        hidden = self._decoder(embedded, self._counting[1 : positions + 1][None], mask, mask)
        logits = self._logits(hidden[self._counting[:rows], lengths - 1])
        for row, generation in enumerate(generations):
            self._samplers[first_slot + row] = Sampler(generation.sampling)
            self._lengths[first_slot + row] = self.image_tokens + len(texts[row])
        return self._sample(logits, first_slot)

    @torch.inference_mode()
    def decode(self, live: int) -> Sampled:
        """See ``ModelRunner``."""
        lengths = torch.tensor(self._lengths[:live], device=self._device)
        read = min(-(-(max(self._lengths[:live]) + 1) // READ_STEP) * READ_STEP, self._length)
        plan = self._cache.plan
        plan.prefilling, plan.rows, plan.read = False, live, read
        plan.positions, plan.row_numbers = lengths, self._counting[:live]
        keys = self._counting[:read]
        mask = (keys <= lengths[:, None])[:, None, None]
        sliding = mask
        if self._window is not None:
            sliding = mask & (keys > (lengths - self._window)[:, None])[:, None, None]
        embedded = self._model.get_input_embeddings()(self._tokens[:live, None])
        hidden = self._decoder(embedded, (lengths + 1)[:, None], mask, sliding)
        for row in range(live):
            self._lengths[row] += 1
        return self._sample(self._logits(hidden[:, -1]), 0)

    @torch.inference_mode()
    def move(self, source: int, target: int) -> None:
        """See ``ModelRunner``."""
        self._cache.move(source, target, self._lengths[source])
        self._tokens[target] = self._tokens[source]
        self._lengths[target] = self._lengths[source]
        self._samplers[target] = self._samplers[source]

    def _decoder(self, embedded: Tensor, positions: Tensor, mask: Tensor | None, sliding: Tensor | None) -> Tensor:
        """Hidden states [rows, positions, hidden size] of the language model."""
        masks = mask if self._window is None else {"full_attention": mask, "sliding_attention": sliding}
        output = self._model.model.language_model(
            inputs_embeds=embedded, position_ids=positions, attention_mask=masks, past_key_values=self._cache, use_cache=True
        )
        return cast(Tensor, output.last_hidden_state)

    def _logits(self, hidden: Tensor) -> Tensor:
        """Logits [rows, vocabulary] of hidden states [rows, hidden size]."""
        logits = self._model.lm_head(hidden)
        if self._softcap is not None:
            logits = torch.tanh(logits / self._softcap) * self._softcap
        return cast(Tensor, logits)

    def _sample(self, logits: Tensor, first_slot: int) -> Sampled:
        slots = slice(first_slot, first_slot + logits.shape[0])
        sampled = sample(logits, self._samplers[slots])
        self._tokens[slots] = torch.tensor(sampled.tokens, device=self._device)
        return sampled


def _end_tokens(model: PaliGemmaForConditionalGeneration) -> frozenset[int]:
    """The checkpoint's end tokens; none where its generation config names none."""
    end = model.generation_config.eos_token_id
    if end is None:
        return frozenset()
    return frozenset([end] if isinstance(end, int) else end)
