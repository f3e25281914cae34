"""A checkpoint for larger pictures without training: every patch takes so many times the pixels, and sees their means.

It sees no finer than before, but pictures need not be made smaller by the caller. The patch kernel is spread over the larger patch and
divided by what it is repeated: the product is that of the averaged picture.
"""

import torch
from torch import nn
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration


def enlarge_config(config: PaliGemmaConfig, times: int) -> PaliGemmaConfig:
    """Of pictures and patches ``times`` as large; changed in place."""
    config.vision_config.image_size *= times
    config.vision_config.patch_size *= times
    return config


@torch.no_grad()
def enlarge_patches(model: PaliGemmaForConditionalGeneration, times: int) -> None:
    """The same for a loaded model and its config."""
    enlarge_config(model.config, times)
    tower = model.model.vision_tower
    # transformers 5.17 has one module more around the tower's parts.
    embeddings = getattr(tower, "vision_model", tower).embeddings
    kernel = embeddings.patch_embedding.weight
    spread = kernel.repeat_interleave(times, 2).repeat_interleave(times, 3) / times**2
    side = int(spread.shape[-1])
    convolution = nn.Conv2d(kernel.shape[1], kernel.shape[0], side, side).to(kernel)
    convolution.weight.copy_(spread)
    if convolution.bias is not None:
        convolution.bias.copy_(embeddings.patch_embedding.bias)
    embeddings.patch_embedding = convolution
    embeddings.image_size, embeddings.patch_size = model.config.vision_config.image_size, side
