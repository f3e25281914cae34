"""Linear layers that read the same input, as one matrix product."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Projection = Callable[[Tensor], Tensor]


def join(layers: Sequence[nn.Module]) -> Projection:
    """The outputs of ``layers`` side by side, [..., sum of their widths], of one input [..., width].

    Plain linear layers become one matrix, whose parts they keep as their own weights, so that nothing is held twice. Any other kind
    (quantised, or with an adapter) is called as it is.
    """
    plain = [layer for layer in layers if type(layer) is nn.Linear]
    if len(plain) < len(layers) or len({layer.bias is None for layer in plain}) > 1 or any(layer.weight.is_meta for layer in plain):
        return lambda hidden: torch.cat([layer(hidden) for layer in layers], dim=-1)
    weight = torch.cat([layer.weight.detach() for layer in plain])
    bias = None if plain[0].bias is None else torch.cat([layer.bias.detach() for layer in plain])
    widths = [layer.out_features for layer in plain]
    for layer, part in zip(plain, torch.split(weight, widths), strict=True):
        layer.weight = nn.Parameter(part, requires_grad=False)
    return lambda hidden: F.linear(hidden, weight, bias)
