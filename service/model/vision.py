"""SigLIP's tower and the projector: from pixels to the image features that the decoder reads.

The weights are those of transformers' modules; the computation is ``SiglipVisionModel``'s, with one product for query, key and value.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PaliGemmaForConditionalGeneration

from service.model.linear import Projection, product, project
from service.model.low_rank import Adapting, LowRankTable

CHANNELS = 3


@dataclass(frozen=True, slots=True)
class Normalisation:
    """From a pixel's levels to the numbers that the model reads: the settings of a checkpoint's image processor.

    Where the processor does not rescale or normalise: a factor of 1, a mean of 0, a deviation of 1. The latter two for each channel.
    """

    factor: float
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    def prepared(self, pixels: int, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Gives float32 of uint8 [..., pixels * 3], each pixel's channels side by side: bit for bit transformers' ``pixel_values``.

        Rescaled in float64, normalised in float32, as transformers does: any other order differs in the last bit.
        """
        mean, deviation = (torch.tensor(each, device=device).repeat(pixels) for each in (self.mean, self.deviation))
        return lambda levels: levels.double().mul_(self.factor).float().sub_(mean).div_(deviation)


@dataclass(frozen=True, slots=True)
class VisionLayer:
    """One encoder layer's parts."""

    before_attention: nn.Module
    query_key_value: Projection
    attention_output: Projection
    before_feed_forward: nn.Module
    widen: Projection
    narrow: Projection


class VisionEncoder:
    """Image features [images, image tokens, hidden size] of pixels uint8 [images, side, side, 3]. The model's own layers are used up.

    Pixels travel as they are and become numbers here. ``pack``: see ``project``.
    """

    def __init__(self, model: PaliGemmaForConditionalGeneration, normalisation: Normalisation, adapters: LowRankTable, pack: bool) -> None:
        self._dtype = model.dtype
        tower: Any = model.model.vision_tower
        # transformers 5.17 has one module more around the tower's parts.
        tower = getattr(tower, "vision_model", tower)
        self._patches, self._patch_side = _patches(tower.embeddings.patch_embedding, pack)
        self._normalise = normalisation.prepared(self._patch_side**2, model.device)
        self._positions: Tensor = tower.embeddings.position_embedding.weight
        self._heads: int = model.config.vision_config.num_attention_heads
        self._layers = [_layer(each, pack, adapters, f"vision.{index}") for index, each in enumerate(tower.encoder.layers)]
        self._after: nn.Module = tower.post_layernorm
        projector = model.model.multi_modal_projector.linear
        self._projector = project([projector], pack, update=adapters.update("projector", {"linear": projector}))

    def __call__(self, pixels: Tensor, adapting: Adapting | None = None) -> Tensor:
        """See the class. ``adapting``: which pictures have which adapter."""
        values = self._normalise(cut(pixels, self._patch_side)).to(self._dtype)
        hidden = self._patches(values) + self._positions
        for layer in self._layers:
            hidden = self._through(layer, hidden, adapting)
        return self._projector(self._after(hidden), adapting)

    def _through(self, layer: VisionLayer, hidden: Tensor, adapting: Adapting | None) -> Tensor:
        """One layer, [images, image tokens, width]."""
        images, tokens, width = hidden.shape
        joined = layer.query_key_value(layer.before_attention(hidden), adapting).view(images, tokens, 3, self._heads, -1)
        query, key, value = joined.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(images, tokens, width)
        hidden = hidden + layer.attention_output(mixed, adapting)
        return hidden + layer.narrow(layer.widen(layer.before_feed_forward(hidden), adapting), adapting)


def cut(pixels: Tensor, side: int) -> Tensor:
    """Turn [images, height, width, 3] into patches [images, patches, side * side * 3], row by row from the upper left."""
    images, height, width, _ = pixels.shape
    rows, columns = height // side, width // side
    cut_up = pixels[:, : rows * side, : columns * side].reshape(images, rows, side, columns, side * CHANNELS)
    return cut_up.transpose(2, 3).reshape(images, rows * columns, side * side * CHANNELS)


def _patches(convolution: Any, pack: bool) -> tuple[Projection, int]:
    """The patch embedding as a product of cut patches, and a patch's side in pixels."""
    weight = convolution.weight.detach()
    flat = weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1).contiguous()
    return product(flat, convolution.bias, pack), int(weight.shape[-1])


def _layer(module: Any, pack: bool, adapters: LowRankTable, name: str) -> VisionLayer:
    def adapted(module: Any, *names: str, gelu: bool = False) -> Projection:
        layers = {each: getattr(module, each) for each in names}
        return project(list(layers.values()), pack, gelu, adapters.update(name, layers))

    attention = module.self_attn
    return VisionLayer(
        before_attention=module.layer_norm1,
        query_key_value=adapted(attention, "q_proj", "k_proj", "v_proj"),
        attention_output=adapted(attention, "out_proj"),
        before_feed_forward=module.layer_norm2,
        widen=adapted(module.mlp, "fc1", gelu=True),
        narrow=adapted(module.mlp, "fc2"),
    )
