"""Attention with grouped query heads, over keys that every query of a row may see alike."""

import torch
from torch import Tensor
from torch.nn import functional as F


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float, softcap: float | None) -> Tensor:
    """Mix values for ``query`` [rows, queries, heads, dim]; the same shape comes back.

    ``key`` and ``value`` [rows, KV heads, keys, dim]. ``bias`` [rows, 1, 1, keys] is added to the scores: 0, or -inf where a key may not be
    seen; None where all may. That is all a prefix-LM needs: a prefix is seen by all of itself, and a decode step has one query.
    The query heads of one KV head stand among the queries, so that K and V are never repeated.
    ``softcap`` bounds the scores by tanh, as Gemma 2 does (arXiv 2408.00118, section 2); no fused kernel of torch's has it.
    """
    rows, queries, heads, dim = query.shape
    kv_heads = key.shape[1]
    grouped = query.reshape(rows, queries, kv_heads, heads // kv_heads, dim).transpose(1, 2).reshape(rows, kv_heads, -1, dim)
    if softcap is None:
        mixed = F.scaled_dot_product_attention(grouped, key, value, attn_mask=bias, scale=scale)
    else:
        scores = torch.tanh(torch.matmul(grouped, key.transpose(2, 3)) * (scale / softcap)) * softcap
        if bias is not None:
            scores = scores + bias
        mixed = torch.matmul(torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype), value)
    return mixed.view(rows, kv_heads, queries, heads // kv_heads, dim).transpose(1, 2).reshape(rows, queries, heads, dim)
