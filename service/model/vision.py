"""SigLIP's tower and the projector: from pixels to the image features that the decoder reads.

The weights are those of transformers' modules; the computation is ``SiglipVisionModel``'s, with one product for query, key and value.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PaliGemmaForConditionalGeneration

from service.model.linear import Projection, join


@dataclass(frozen=True, slots=True)
class VisionLayer:
    """One encoder layer's parts."""

    before_attention: nn.Module
    query_key_value: Projection
    attention_output: nn.Module
    before_feed_forward: nn.Module
    feed_forward: nn.Module


class VisionEncoder:
    """Image features [images, image tokens, hidden size] of pixels uint8 [images, side, side, 3].

    Pixels travel as they are and become numbers here: ``levels`` [256, 3] is the value of each level in each channel.
    """

    def __init__(self, model: PaliGemmaForConditionalGeneration, levels: NDArray[np.float32]) -> None:
        self._levels = torch.from_numpy(levels).to(model.device, model.dtype)
        tower: Any = model.model.vision_tower
        # transformers 5.17 has one module more around the tower's parts.
        tower = getattr(tower, "vision_model", tower)
        self._patches: nn.Module = tower.embeddings.patch_embedding
        self._positions: nn.Embedding = tower.embeddings.position_embedding
        self._heads: int = model.config.vision_config.num_attention_heads
        self._layers = [_layer(each) for each in tower.encoder.layers]
        self._after: nn.Module = tower.post_layernorm
        self._projector: nn.Module = model.model.multi_modal_projector

    def __call__(self, pixels: Tensor) -> Tensor:
        """See the class."""
        hidden = self._patches(pixel_values(pixels, self._levels)).flatten(2).transpose(1, 2) + self._positions.weight
        for layer in self._layers:
            hidden = self._through(layer, hidden)
        projected: Tensor = self._projector(self._after(hidden))
        return projected

    def _through(self, layer: VisionLayer, hidden: Tensor) -> Tensor:
        """One layer, [images, image tokens, width]."""
        images, tokens, width = hidden.shape
        joined = layer.query_key_value(layer.before_attention(hidden)).view(images, tokens, 3, self._heads, -1)
        query, key, value = joined.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(images, tokens, width)
        hidden = hidden + layer.attention_output(mixed)
        fed: Tensor = layer.feed_forward(layer.before_feed_forward(hidden))
        return hidden + fed


def pixel_values(pixels: Tensor, levels: Tensor) -> Tensor:
    """Turn uint8 [..., side, side, 3] into [..., 3, side, side]: transformers' ``pixel_values``, bit for bit where levels are float32."""
    return torch.stack([levels[:, channel][pixels[..., channel].int()] for channel in range(pixels.shape[-1])], dim=-3)


def _layer(module: Any) -> VisionLayer:
    attention = module.self_attn
    return VisionLayer(
        before_attention=module.layer_norm1,
        query_key_value=join([attention.q_proj, attention.k_proj, attention.v_proj]),
        attention_output=attention.out_proj,
        before_feed_forward=module.layer_norm2,
        feed_forward=module.mlp,
    )
