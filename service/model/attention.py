"""Attention over slots, as an attention function that transformers' own modules call."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

NAME = "paliserve_slots"


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention whose mask depends on the key alone, which holds for a bidirectional prefill and for a decode step alike.

    ``query`` [rows, heads, positions, dim]; ``key`` and ``value`` [rows, KV heads, keys, dim]; ``attention_mask`` bool [rows, 1, 1, keys],
    true where a key may be seen; None when all may. Returns [rows, positions, heads, dim].
    The query heads of one KV head are folded into the positions, so that K and V are never repeated.
    ``softcap`` bounds the scores by tanh, as Gemma 2 does.
    """
    rows, heads, positions, dim = query.shape
    kv_heads = key.shape[1]
    folded = query.reshape(rows, kv_heads, heads // kv_heads * positions, dim)
    if softcap is None:
        mixed = F.scaled_dot_product_attention(folded, key, value, attn_mask=attention_mask, scale=scaling)
    else:
        scores = torch.matmul(folded, key.transpose(2, 3)) * (dim**-0.5 if scaling is None else scaling)
        scores = torch.tanh(scores / softcap) * softcap
        if attention_mask is not None:
            scores = scores.masked_fill(~attention_mask, float("-inf"))
        mixed = torch.matmul(torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype), value)
    return mixed.view(rows, heads, positions, dim).transpose(1, 2).contiguous(), None


def register() -> None:
    """Make the function known to transformers under ``NAME``."""
    AttentionInterface.register(NAME, attend)
