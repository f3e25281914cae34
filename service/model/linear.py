"""Linear layers as the device computes them fastest."""

import platform
from collections.abc import Callable, Sequence
from functools import cache
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Projection = Callable[[Tensor], Tensor]

PACKED_FOR = 64
"""Rows for which oneDNN chooses the layout of a packed weight: measured the best, or near it, from 1 row to 500."""
SMALL, FEW_ROWS = 400_000, 2
"""A weight of so few numbers is kept unpacked too: calling oneDNN takes longer than multiplying so many rows with it."""
ROWS_ROUNDED_TO = 16
"""Batches of other sizes are padded to this, because oneDNN prepares each number of rows anew, in about a millisecond for each layer."""


def project(layers: Sequence[nn.Module], pack: bool, gelu: bool = False) -> Projection:
    """The outputs of ``layers`` side by side, [..., sum of their widths], of one input [..., width]; through GELU (tanh) if ``gelu``.

    Plain linear layers become one matrix, and give up their own. ``pack`` lays it out for oneDNN where that can be: 1.3 times as fast for
    many rows, twice as fast for few, because packed weights are read in the order in which they lie in memory. Any other kind of layer
    (quantised, or with an adapter) is called as it is.
    """
    plain = [layer for layer in layers if type(layer) is nn.Linear]
    if len(plain) < len(layers) or len({layer.bias is None for layer in plain}) > 1 or any(layer.weight.is_meta for layer in plain):

        def called(hidden: Tensor) -> Tensor:
            joined = torch.cat([layer(hidden) for layer in layers], dim=-1) if len(layers) > 1 else cast(Tensor, layers[0](hidden))
            return F.gelu(joined, approximate="tanh") if gelu else joined

        return called
    weight = _joined([layer.weight.detach() for layer in plain])
    bias = None if plain[0].bias is None else _joined([layer.bias.detach() for layer in plain])
    for layer in plain:
        layer.weight = nn.Parameter(weight.new_empty(0), requires_grad=False)
    return product(weight, bias, pack, gelu)


def product(weight: Tensor, bias: Tensor | None, pack: bool, gelu: bool = False) -> Projection:
    """The layer of ``weight`` [width out, width in]; see ``project``."""
    if not pack or not packs(weight):
        return _unpacked(weight, bias, gelu)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_FOR)
    fused: tuple[str, list[float], str] = ("gelu", [], "tanh") if gelu else ("none", [], "")

    def many(hidden: Tensor) -> Tensor:
        return cast(Tensor, torch.ops.mkldnn._linear_pointwise(hidden, packed, bias, *fused))

    if weight.numel() > SMALL:
        return many
    few, most = _unpacked(weight, bias, gelu), FEW_ROWS * weight.shape[1]
    return lambda hidden: few(hidden) if hidden.numel() <= most else many(hidden)


def project_gated(gate: nn.Module, up: nn.Module, pack: bool) -> Projection:
    """``gelu(gate(hidden)) * up(hidden)``: what a Gemma layer's feed-forward part sends down."""
    if pack and all(type(layer) is nn.Linear and packs(layer.weight) for layer in (gate, up)):
        activated, factor = project([gate], pack, gelu=True), project([up], pack)
        return lambda hidden: activated(hidden).mul_(factor(hidden))
    both = project([gate, up], pack)

    def multiplied(hidden: Tensor) -> Tensor:
        activated, factor = both(hidden).chunk(2, dim=-1)
        return F.gelu(activated, approximate="tanh") * factor

    return multiplied


def _unpacked(weight: Tensor, bias: Tensor | None, gelu: bool) -> Projection:
    if gelu:
        return lambda hidden: F.gelu(F.linear(hidden, weight, bias), approximate="tanh")
    return lambda hidden: F.linear(hidden, weight, bias)


def packs(weight: Tensor) -> bool:
    """Whether oneDNN has packed products for this kind of weight here."""
    return weight.device.type == "cpu" and weight.dtype in _packed_types()


def packs_on(device: str, dtype: str) -> bool:
    """The same for weights that are not here yet."""
    return device == "cpu" and getattr(torch, dtype) in _packed_types()


@cache
def _packed_types() -> frozenset[torch.dtype]:
    # On other processors torch's oneDNN hands packed products to libraries that are not tried here.
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return frozenset()
    return frozenset({torch.float32, *([torch.bfloat16] if torch.ops.mkldnn._is_mkldnn_bf16_supported() else [])})


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if len(parts) > 1 else parts[0]
