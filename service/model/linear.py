"""Linear layers as the device computes them fastest."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from service.model.low_rank import Adapting, LowRank, LowRankTable

Operation = Callable[[Tensor], Tensor]

PACKED_FOR = 64
"""Rows for which oneDNN chooses the layout of a packed weight: measured the best, or near it, from 1 row to 500."""
SMALL, FEW_ROWS = 400_000, 2
"""A weight of so few numbers is kept unpacked too: calling oneDNN takes longer than multiplying so many rows with it."""
ROWS_ROUNDED_TO = 16
"""Batches of other sizes are padded to this, because oneDNN prepares each number of rows anew, in about a millisecond for each layer."""


@dataclass(frozen=True, slots=True)
class Projection:
    """A product: ``linear`` of [.., width] alone, ``whole`` with its GELU where it has one, and what adapters add to it."""

    linear: Operation
    whole: Operation
    update: LowRank | None = None

    def __call__(self, hidden: Tensor, adapting: Adapting | None = None) -> Tensor:
        """[.., width out] of [.., width in]."""
        if adapting is None or self.update is None:
            return self.whole(hidden)
        added = self.update.add(self.linear(hidden), hidden, adapting)
        return added if self.whole is self.linear else _gelu(added)


@dataclass(frozen=True, slots=True)
class Gated:
    """``gelu(gate(hidden)) * up(hidden)``: what a Gemma layer's feed-forward part sends down.

    ``up`` None: ``gate`` is both, side by side.
    """

    gate: Projection
    up: Projection | None

    def __call__(self, hidden: Tensor, adapting: Adapting | None = None) -> Tensor:
        """[.., width out] of [.., width in]."""
        if self.up is not None:
            return self.gate(hidden, adapting).mul_(self.up(hidden, adapting))
        activated, factor = self.gate(hidden, adapting).chunk(2, dim=-1)
        return _gelu(activated) * factor


def project(layers: Sequence[nn.Module], pack: bool, gelu: bool = False, update: LowRank | None = None) -> Projection:
    """The outputs of ``layers`` side by side, [..., sum of their widths], of one input [..., width]; through GELU (tanh) if ``gelu``.

    Plain linear layers become one matrix, and give up their own. ``pack`` lays it out for oneDNN where that can be: 1.3 times as fast for
    many rows, twice as fast for few, because packed weights are read in the order in which they lie in memory. Any other kind of layer
    (a quantised one) is called as it is.
    """
    plain = [layer for layer in layers if type(layer) is nn.Linear and type(layer.weight) is nn.Parameter]
    if len(plain) < len(layers) or len({layer.bias is None for layer in plain}) > 1 or any(layer.weight.is_meta for layer in plain):

        def called(hidden: Tensor) -> Tensor:
            return torch.cat([layer(hidden) for layer in layers], dim=-1) if len(layers) > 1 else cast(Tensor, layers[0](hidden))

        return Projection(called, (lambda hidden: _gelu(called(hidden))) if gelu else called, update)
    weight = _joined([layer.weight.detach() for layer in plain])
    bias = None if plain[0].bias is None else _joined([layer.bias.detach() for layer in plain])
    for layer in plain:
        layer.weight = nn.Parameter(weight.new_empty(0), requires_grad=False)
    return product(weight, bias, pack, gelu, update)


def product(weight: Tensor, bias: Tensor | None, pack: bool, gelu: bool = False, update: LowRank | None = None) -> Projection:
    """The layer of ``weight`` [width out, width in]; see ``project``."""
    if not pack or not packs(weight):
        unpacked = _unpacked(weight, bias, gelu=False)
        return Projection(unpacked, _unpacked(weight, bias, gelu) if gelu else unpacked, update)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_FOR)

    def multiplied(gelu: bool) -> Operation:
        fused: tuple[str, list[float], str] = ("gelu", [], "tanh") if gelu else ("none", [], "")

        def many(hidden: Tensor) -> Tensor:
            return cast(Tensor, torch.ops.mkldnn._linear_pointwise(hidden, packed, bias, *fused))

        if weight.numel() > SMALL:
            return many
        few, most = _unpacked(weight, bias, gelu), FEW_ROWS * weight.shape[1]
        return lambda hidden: few(hidden) if hidden.numel() <= most else many(hidden)

    linear = multiplied(gelu=False)
    return Projection(linear, multiplied(gelu=True) if gelu else linear, update)


def project_gated(gate: nn.Module, up: nn.Module, pack: bool, table: LowRankTable, prefix: str) -> Gated:
    """The two layers of a gated feed-forward part. What adapters add to them stands in ``table`` behind ``prefix``."""
    if pack and all(type(layer) is nn.Linear and type(layer.weight) is nn.Parameter and packs(layer.weight) for layer in (gate, up)):
        updates = table.update(prefix, {"gate_proj": gate}), table.update(prefix, {"up_proj": up})
        return Gated(project([gate], pack, True, updates[0]), project([up], pack, False, updates[1]))
    return Gated(project([gate, up], pack, False, table.update(prefix, {"gate_proj": gate, "up_proj": up})), None)


def _unpacked(weight: Tensor, bias: Tensor | None, gelu: bool) -> Operation:
    if gelu:
        return lambda hidden: _gelu(F.linear(hidden, weight, bias))
    return lambda hidden: F.linear(hidden, weight, bias)


def _gelu(hidden: Tensor) -> Tensor:
    return F.gelu(hidden, approximate="tanh")


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
