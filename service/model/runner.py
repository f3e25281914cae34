"""The engine's ``ModelRunner`` over the weights of transformers' PaliGemma modules."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from transformers import PaliGemmaForConditionalGeneration

from service.engine.generation import GREEDY, Generation, Picture
from service.engine.runner import Sampled
from service.model.adapters import Adapter, check_adapter, read_adapter
from service.model.decoder import Decoder, Span, StepRows
from service.model.graphs import DecodeGraphs, doubling, read_sizes
from service.model.key_values import KeyValueTable
from service.model.linear import project
from service.model.low_rank import Adapting, LowRankTable, runs_of
from service.model.sampling import Choosing, TokenMasks, choose
from service.model.vision import Normalisation, VisionEncoder

logger = logging.getLogger(__name__)

READ_STEP = 32
"""Positions read in a decode step are rounded up to this, so that shapes repeat."""
NARROW = 512
"""A model of a smaller hidden size computes with one thread: its matrices are too small to be shared among several."""


class SlidingWindow(StrEnum):
    """What Gemma 2's sliding layers see in a decode step.

    ``TRANSFORMERS``: the last ``sliding_window`` keys, as transformers does. ``REFERENCE``: all keys, as big_vision trained and evaluated
    PaliGemma 2. They differ where image, prompt and answer are longer than the window: at 896 pixels only.
    """

    TRANSFORMERS = "transformers"
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """``slots`` rows of at most ``max_text_tokens`` (prompt and answer together) each.

    ``graphs``: decode in CUDA graphs where the device has them. ``compile``: fuse the decoder's small operations by torch.compile, which
    takes minutes at the start and a C++ compiler on a CPU. ``adapters`` of at most ``adapter_rank`` can be there at once.
    ``images``: the most pictures of a prompt.
    """

    slots: int
    max_text_tokens: int
    sliding_window: SlidingWindow = SlidingWindow.TRANSFORMERS
    graphs: bool = True
    compile: bool = False
    adapters: int = 0
    adapter_rank: int = 16
    images: int = 1


class PaliGemmaRunner:
    """Slots over a static KV table. What the decoder sees in each phase:

    prefill   image image … bos prefix newline     every token sees every other: the prefix is bidirectional
    decode    the last token                       sees every key its row has written so far: the suffix is causal
    """

    def __init__(
        self,
        model: PaliGemmaForConditionalGeneration,
        normalisation: Normalisation,
        options: RunnerOptions,
        threads: Callable[[], int] = torch.get_num_threads,
    ) -> None:
        """Uses up ``model``: its layers cannot be called afterwards. ``threads`` tells before each step how many a CPU may use."""
        model.eval()
        text, vision = model.config.text_config, model.config.vision_config
        self._threads, self._threads_used = (threads if text.hidden_size >= NARROW else lambda: 1), 0
        self._device: torch.device = model.device
        self._dtype: torch.dtype = model.dtype
        self.slots = options.slots
        self.image_tokens = (vision.image_size // vision.patch_size) ** 2
        self.feature_bytes = self.image_tokens * text.hidden_size * self._dtype.itemsize
        self.end_tokens = _end_tokens(model)
        self._length = options.images * self.image_tokens + options.max_text_tokens
        self._softcap = cast("float | None", getattr(text, "final_logit_softcapping", None))
        slides = text.model_type == "gemma2" and options.sliding_window is SlidingWindow.TRANSFORMERS
        self._window = cast("int | None", text.sliding_window) if slides else None
        row = (text.num_key_value_heads, self._length, text.head_dim)
        self._table = KeyValueTable(text.num_hidden_layers, options.slots, row, self._dtype, self._device)
        with torch.inference_mode():
            # torch.compile does not look into packed products.
            pack = not options.compile
            self._low_rank = LowRankTable(options.adapters, options.adapter_rank, self._dtype, self._device)
            self._vision = VisionEncoder(model, normalisation, self._low_rank, pack)
            self._decoder = Decoder(model, self._table, self._low_rank, self._length, pack)
            self._embed, self._head = model.get_input_embeddings(), project([model.lm_head], pack)
        self._numbers = torch.arange(max(options.slots, self._length), device=self._device)
        self.vocabulary_size = int(text.vocab_size)
        self._masks = TokenMasks(self.vocabulary_size, self._device)
        # The last token and the next position of each slot, where the device finds them.
        self._tokens = torch.zeros(options.slots, dtype=torch.long, device=self._device)
        self._positions = torch.zeros(options.slots, dtype=torch.long, device=self._device)
        self._lengths = [0] * options.slots
        # The place of each slot's adapter, 0 for none; on the device, and here.
        self._places = torch.zeros(options.slots, dtype=torch.long, device=self._device)
        self._place_of = [0] * options.slots
        self._choosing = [Choosing(GREEDY, None) for _ in range(options.slots)]
        self._step = torch.compile(self._decode_logits, dynamic=None) if options.compile else self._decode_logits
        record = options.graphs and self._device.type == "cuda"
        self._graphs = {adapted: self._record(adapted) for adapted in ((False, True) if options.adapters else (False,)) if record}

    @torch.inference_mode()
    def encode(self, pictures: Sequence[Picture]) -> list[object]:
        """Image features [image tokens, hidden size] of pixels uint8 [side, side, 3]."""
        self._use_threads()
        batch = torch.from_numpy(np.stack([cast("np.ndarray", each.pixels) for each in pictures]))
        features = self._vision(batch.to(self._device), runs_of([each.adapter for each in pictures], [1] * len(pictures)))
        # Copies, because a feature that is kept must not keep its whole batch.
        return [each.clone() for each in features]

    @torch.inference_mode()
    def prefill(self, generations: Sequence[Generation], first_slot: int) -> Sampled:
        """See ``ModelRunner``. Neighbours of equal length are attended to in one piece."""
        lengths = [self.image_tokens * len(each.prompt.pictures) + len(each.prompt.tokens) for each in generations]
        places = [generation.adapter for generation in generations]
        self._use_threads()
        spans, slot = [], first_slot
        for length, alike in groupby(lengths):
            spans.append(Span(slot, len(list(alike)), length))
            slot += spans[-1].rows
        adapting = runs_of(places, lengths), runs_of(places, [1] * len(places))
        logits = self._logits(self._decoder.prefill(self._packed(generations), spans, *adapting))
        choosing = [Choosing.of(generation) for generation in generations]
        slots = slice(first_slot, first_slot + len(generations))
        self._choosing[slots], self._lengths[slots] = choosing, lengths
        self._positions[slots] = torch.tensor(lengths).to(self._device)
        if self._low_rank.places:
            self._place_of[slots] = places
            self._places[slots] = torch.tensor(places).to(self._device)
        return self._choose(logits, slots)

    @torch.inference_mode()
    def decode(self, slots: range) -> Sampled:
        """See ``ModelRunner``."""
        read = max(self._lengths[slots.start : slots.stop]) + 1
        rows = slice(slots.start, slots.stop)
        adapted = any(self._place_of[rows])
        graphs = self._graphs.get(adapted)
        if graphs is not None and slots.start == 0:
            logits = graphs.run(slots.stop, read)
        else:
            self._use_threads()
            logits = self._step(rows, min(-(-read // READ_STEP) * READ_STEP, self._length), adapted)
        sampled = self._choose(logits, rows)
        self._positions[rows] += 1
        for slot in slots:
            self._lengths[slot] += 1
        return sampled

    @torch.inference_mode()
    def move(self, source: int, target: int) -> None:
        """See ``ModelRunner``."""
        self._table.move(source, target, self._lengths[source])
        for column in (self._tokens, self._positions, self._places):
            column[target] = column[source]
        self._lengths[target], self._choosing[target] = self._lengths[source], self._choosing[source]
        self._place_of[target] = self._place_of[source]

    def device_memory(self) -> tuple[int, int] | None:
        """See ``ModelRunner``."""
        if self._device.type != "cuda":
            return None
        free, total = torch.cuda.mem_get_info(self._device)
        return total - free, total

    def read_adapter(self, folder: str) -> Adapter:
        """See ``ModelRunner``. Errors: AdapterError."""
        adapter = read_adapter(Path(folder))
        widths = {name: part.update.shape(part.index) for name, part in self._low_rank.parts.items()}
        check_adapter(adapter, folder, widths, self._low_rank.rank)
        return adapter

    def adopt(self, place: int, adapter: object) -> None:
        """See ``ModelRunner``."""
        self._low_rank.put(place, cast(Adapter, adapter).modules)

    def abandon(self, place: int) -> None:
        """See ``ModelRunner``."""
        self._low_rank.clear(place)

    def _packed(self, generations: Sequence[Generation]) -> Tensor:
        """Image features and embedded words of all prompts, one prompt behind the other: [tokens of all, hidden size]."""
        lengths = [len(generation.prompt.tokens) for generation in generations]
        words = torch.tensor([token for generation in generations for token in generation.prompt.tokens]).to(self._device)
        texts = torch.split(self._embed(words), lengths)
        pieces: list[Tensor] = []
        for generation, text in zip(generations, texts, strict=True):
            pieces += [cast(Tensor, picture.features) for picture in generation.prompt.pictures]
            pieces.append(text)
        return torch.cat(pieces)

    def _decode_logits(self, slots: slice, read: int, adapted: bool) -> Tensor:
        """Logits [rows, vocabulary] behind the last tokens of a run of slots; ``adapted``: some of them have an adapter."""
        positions = self._positions[slots]
        keys = self._numbers[:read]
        bias = torch.zeros((len(positions), read), dtype=self._dtype, device=self._device)
        bias = bias.masked_fill(keys > positions[:, None], float("-inf"))
        sliding = bias
        if self._window is not None:
            sliding = bias.masked_fill(keys <= positions[:, None] - self._window, float("-inf"))
        adapting = None
        if adapted:
            adapting = Adapting(mask=(self._places[slots, None] == self._numbers[1 : self._low_rank.places + 1]).to(self._dtype))
        rows = StepRows(slots, self._numbers[slots], positions, bias[:, None, None], sliding[:, None, None], adapting)
        return self._logits(self._decoder.decode(self._embed(self._tokens[slots]), rows))

    def _logits(self, hidden: Tensor) -> Tensor:
        """Logits [rows, vocabulary] of hidden states [rows, hidden size]."""
        logits = self._head(hidden)
        if self._softcap is not None:
            logits = torch.tanh(logits / self._softcap) * self._softcap
        return logits

    def _choose(self, logits: Tensor, slots: slice) -> Sampled:
        choosing = self._choosing[slots]
        tokens, probabilities = choose(logits, choosing, self._masks)
        # One copy to the host; float32 holds every token id below 2^24 exactly.
        chosen, sure = torch.stack([tokens.float(), probabilities]).tolist()
        self._tokens[slots] = tokens
        sampled = Sampled([int(token) for token in chosen], sure)
        for each, token, probability in zip(choosing, sampled.tokens, sampled.probabilities, strict=True):
            # Out of logits that are no numbers comes any token, also one that its grammar does not know; its request ends here.
            if not math.isnan(probability):
                each.advance(token, self.end_tokens)
        return sampled

    def _use_threads(self) -> None:
        """Share each operation among as many threads as this process may use at the moment."""
        count = self._threads()
        if count != self._threads_used:
            torch.set_num_threads(count)
            self._threads_used = count

    @torch.inference_mode()
    def _record(self, adapted: bool) -> DecodeGraphs | None:
        reads = read_sizes(self.image_tokens, self._length)
        try:
            # Streams and graphs belong to the current device, which is the first one unless it is set.
            with torch.cuda.device(self._device):
                return DecodeGraphs(lambda rows, read: self._step(slice(0, rows), read, adapted), doubling(1, self.slots), reads)
        except RuntimeError:
            logger.exception("decode graphs cannot be recorded here; every step launches its operations one by one")
            return None


def _end_tokens(model: PaliGemmaForConditionalGeneration) -> frozenset[int]:
    """The checkpoint's end tokens; none where its generation config names none."""
    end = model.generation_config.eos_token_id
    if end is None:
        return frozenset()
    return frozenset([end] if isinstance(end, int) else end)
