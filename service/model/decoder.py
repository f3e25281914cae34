"""Gemma and Gemma 2 over a table of slots: the whole prefix at once, then one token for many rows.

The weights are those of transformers' modules (``GemmaModel``, ``Gemma2Model``); the computation is theirs in fewer and larger pieces:
prompts are packed without padding, query, key and value are one product, gate and up another, and in a prefill's last layer only each
prompt's last token goes on, because no other is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PaliGemmaForConditionalGeneration

from service.model.attention import attend
from service.model.key_values import KeyValueTable
from service.model.linear import ROWS_ROUNDED_TO, Gated, Projection, project, project_gated
from service.model.low_rank import Adapting, LowRankTable


@dataclass(frozen=True, slots=True)
class Span:
    """``rows`` prompts of one ``length`` (image and text tokens), side by side in the packed batch and in the slots from ``slot`` on."""

    slot: int
    rows: int
    length: int


@dataclass(frozen=True, slots=True)
class StepRows:
    """The rows of a decode step: their run of slots, and on the device their numbers and next positions, [rows] each.

    ``bias`` and ``sliding_bias`` [rows, 1, 1, read] are -inf at positions a row has not written, or that its window has left.
    ``adapting`` is None where no row has an adapter.
    """

    slots: slice
    numbers: Tensor
    positions: Tensor
    bias: Tensor
    sliding_bias: Tensor
    adapting: Adapting | None = None

    @property
    def read(self) -> int:
        """Positions that are attended to."""
        return int(self.bias.shape[-1])


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer's parts. Norm weights are float32 [hidden size], 1 added; Gemma 2 has one more behind each block."""

    before_attention: Tensor
    query_key_value: Projection
    attention_output: Projection
    after_attention: Tensor | None
    before_feed_forward: Tensor
    gated: Gated
    down: Projection
    after_feed_forward: Tensor | None
    sliding: bool


class Decoder:
    """The language model of a PaliGemma, whose own layers are used up. Positions count from 1, as transformers' PaliGemma counts them."""

    def __init__(
        self, model: PaliGemmaForConditionalGeneration, table: KeyValueTable, adapters: LowRankTable, most_positions: int, pack: bool
    ) -> None:
        text, language_model = model.config.text_config, cast(Any, model.model.language_model)
        gemma2 = text.model_type == "gemma2"
        self._table = table
        self._layers = [
            _layer(module, gemma2 and text.layer_types[index] == "sliding_attention", pack, adapters, f"text.{index}")
            for index, module in enumerate(language_model.layers)
        ]
        self._norm = _norm_weight(language_model.norm)
        self._epsilon: float = text.rms_norm_eps
        self._heads, self._kv_heads, self._dim = text.num_attention_heads, text.num_key_value_heads, text.head_dim
        self._scale: float = (text.query_pre_attn_scalar if gemma2 else text.head_dim) ** -0.5
        self._softcap = cast("float | None", text.attn_logit_softcapping if gemma2 else None)
        self._cosine, self._sine = _rotations(language_model.rotary_emb, most_positions + 1, model.dtype)

    def prefill(
        self, packed: Tensor, spans: Sequence[Span], adapting: Adapting | None = None, adapting_last: Adapting | None = None
    ) -> Tensor:
        """Write the prompts [tokens of all, hidden size] into their slots; hidden states [prompts, hidden size] of their last tokens.

        ``adapting``: which tokens have which adapter; ``adapting_last``: which prompts.
        """
        lengths = [span.length for span in spans for _ in range(span.rows)]
        surplus = -len(packed) % ROWS_ROUNDED_TO
        packed = F.pad(packed, (0, 0, 0, surplus))
        positions = torch.cat([torch.arange(1, length + 1) for length in (*lengths, surplus)]).to(packed.device)
        last_tokens = torch.tensor(lengths).cumsum(0).sub(1).to(packed.device)
        rotation = self._cosine[positions], self._sine[positions]
        hidden = packed
        for index, layer in enumerate(self._layers):
            query, key, value = self._project(layer, hidden, rotation, adapting)
            is_last = index == len(self._layers) - 1
            if is_last:
                query, hidden, adapting = query[last_tokens], hidden[last_tokens], adapting_last
            mixed = self._attend_to_prefixes(index, spans, (query, key, value), one_query=is_last)
            hidden = self._finish(layer, hidden, mixed, adapting)
        return self._normalise(hidden, self._norm)

    def decode(self, embedded: Tensor, rows: StepRows) -> Tensor:
        """One token each, [rows, hidden size], behind what the rows have written: hidden states [rows, hidden size]."""
        rotation = self._cosine[rows.positions + 1], self._sine[rows.positions + 1]
        hidden = embedded
        for index, layer in enumerate(self._layers):
            query, key, value = self._project(layer, hidden, rotation, rows.adapting)
            self._table.write_next(index, rows.numbers, rows.positions, key, value)
            keys, values = self._table.read(index, rows.slots, rows.read)
            bias = rows.sliding_bias if layer.sliding else rows.bias
            mixed = attend(query[:, None], keys, values, bias, self._scale, self._softcap)
            hidden = self._finish(layer, hidden, mixed.flatten(1), rows.adapting)
        return self._normalise(hidden, self._norm)

    def _project(
        self, layer: Layer, hidden: Tensor, rotation: tuple[Tensor, Tensor], adapting: Adapting | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Query [tokens, heads, dim], key and value [tokens, KV heads, dim], rotated, of hidden states [tokens, hidden size]."""
        joined = layer.query_key_value(self._normalise(hidden, layer.before_attention), adapting)
        joined = joined.view(hidden.shape[0], self._heads + 2 * self._kv_heads, self._dim)
        rotating, value = torch.split(joined, [self._heads + self._kv_heads, self._kv_heads], dim=1)
        cosine, sine = rotation
        rotated = rotating * cosine + rotating.roll(self._dim // 2, dims=-1) * sine
        query, key = torch.split(rotated, [self._heads, self._kv_heads], dim=1)
        return query, key, value

    def _attend_to_prefixes(self, index: int, spans: Sequence[Span], projected: tuple[Tensor, Tensor, Tensor], one_query: bool) -> Tensor:
        """Keep keys and values; mix [queries of all, heads * dim]. No mask: every token of a prompt sees all of it, the image included."""
        query, key, value = projected
        mixed, token, first_query = query.new_zeros(query.shape[0], self._heads * self._dim), 0, 0
        for span in spans:
            queries = 1 if one_query else span.length
            tokens = slice(token, token + span.rows * span.length)
            keys = key[tokens].view(span.rows, span.length, self._kv_heads, self._dim).transpose(1, 2)
            values = value[tokens].view(span.rows, span.length, self._kv_heads, self._dim).transpose(1, 2)
            self._table.write_prefix(index, span.slot, keys, values)
            asked = slice(first_query, first_query + span.rows * queries)
            asking = query[asked].view(span.rows, queries, self._heads, self._dim)
            mixed[asked] = attend(asking, keys, values, None, self._scale, self._softcap).view(span.rows * queries, -1)
            token, first_query = tokens.stop, asked.stop
        return mixed

    def _finish(self, layer: Layer, hidden: Tensor, mixed: Tensor, adapting: Adapting | None) -> Tensor:
        """From mixed values to the layer's output [tokens, hidden size]."""
        attended = layer.attention_output(mixed, adapting)
        if layer.after_attention is not None:
            attended = self._normalise(attended, layer.after_attention)
        hidden = hidden + attended
        fed = layer.down(layer.gated(self._normalise(hidden, layer.before_feed_forward), adapting), adapting)
        if layer.after_feed_forward is not None:
            fed = self._normalise(fed, layer.after_feed_forward)
        return hidden + fed

    def _normalise(self, hidden: Tensor, weight: Tensor) -> Tensor:
        """Gemma's RMS norm: in float32, whatever the weights are."""
        return F.rms_norm(hidden.float(), weight.shape, weight, self._epsilon).to(hidden.dtype)


def _layer(module: Any, sliding: bool, pack: bool, adapters: LowRankTable, name: str) -> Layer:
    attention, feed_forward = module.self_attn, module.mlp

    def adapted(module: Any, *names: str) -> Projection:
        layers = {each: getattr(module, each) for each in names}
        return project(list(layers.values()), pack, update=adapters.update(name, layers))

    gemma2 = hasattr(module, "pre_feedforward_layernorm")
    return Layer(
        before_attention=_norm_weight(module.input_layernorm),
        query_key_value=adapted(attention, "q_proj", "k_proj", "v_proj"),
        attention_output=adapted(attention, "o_proj"),
        after_attention=_norm_weight(module.post_attention_layernorm) if gemma2 else None,
        before_feed_forward=_norm_weight(module.pre_feedforward_layernorm if gemma2 else module.post_attention_layernorm),
        gated=project_gated(feed_forward.gate_proj, feed_forward.up_proj, pack, adapters, name),
        down=adapted(feed_forward, "down_proj"),
        after_feed_forward=_norm_weight(module.post_feedforward_layernorm) if gemma2 else None,
        sliding=sliding,
    )


def _norm_weight(module: Any) -> Tensor:
    return cast(Tensor, 1.0 + module.weight.detach().float())


def _rotations(module: Any, positions: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine [positions, 1, dim] of the rotary embedding; the sine's first half is negative, for a half turn done by ``roll``."""
    frequencies = module.inv_freq.float()
    angles = torch.outer(torch.arange(positions, device=frequencies.device).float(), frequencies)
    scaling = float(module.attention_scaling)
    cosine, sine = angles.cos() * scaling, angles.sin() * scaling
    return torch.cat([cosine, cosine], -1).to(dtype)[:, None], torch.cat([-sine, sine], -1).to(dtype)[:, None]
