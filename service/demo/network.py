"""The demo's PaliGemma: its sizes, and a start from which it learns quickly."""

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GemmaConfig, PaliGemmaConfig, PaliGemmaForConditionalGeneration, PreTrainedTokenizerFast, SiglipVisionConfig

from service.demo.scenes import SceneKind, draw_scene, make_scene
from service.demo.tokenizer import LOCATIONS

SIDE = 224
"""Of the pictures that the family begins with."""
PATCH = 28
GRID = SIDE // PATCH
HIDDEN = 160
HEADS = 4


def build_network(tokenizer: PreTrainedTokenizerFast, seed: int) -> PaliGemmaForConditionalGeneration:
    """2.9 M parameters: SigLIP of 4 layers over 64 patches, Gemma of 4 layers, tied embeddings."""
    torch.manual_seed(seed)
    special = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    vision = SiglipVisionConfig(
        hidden_size=HIDDEN, intermediate_size=4 * HIDDEN, num_hidden_layers=4, num_attention_heads=HEADS, image_size=SIDE, patch_size=PATCH,
        vision_use_head=False, projection_dim=HIDDEN,
    )  # fmt: skip
    text = GemmaConfig(
        vocab_size=len(tokenizer), hidden_size=HIDDEN, intermediate_size=2 * HIDDEN, num_hidden_layers=4, num_attention_heads=HEADS,
        num_key_value_heads=HEADS, head_dim=HIDDEN // HEADS, max_position_embeddings=2048, tie_word_embeddings=True, **special,
    )  # fmt: skip
    config = PaliGemmaConfig(
        vision_config=vision, text_config=text, image_token_index=tokenizer.convert_tokens_to_ids("<image>"), vocab_size=len(tokenizer),
        projection_dim=HIDDEN, hidden_size=HIDDEN, **special,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    network = PaliGemmaForConditionalGeneration(config)
    _initialise(network, int(tokenizer.convert_tokens_to_ids("<loc0000>")))
    return network


@torch.no_grad()
def with_finer_grid(network: PaliGemmaForConditionalGeneration, side: int) -> PaliGemmaForConditionalGeneration:
    """The same network for pictures of ``side`` pixels in patches of the same size: positions are interpolated between those it knows.

    It has to be trained on: it sees everything larger, and more patches of it.
    """
    config = copy.deepcopy(network.config)
    config.vision_config.image_size = side
    config.text_config.num_image_tokens = (side // PATCH) ** 2
    finer = PaliGemmaForConditionalGeneration(config)
    state = network.state_dict()
    name = next(each for each in state if each.endswith("position_embedding.weight"))
    known = round(len(state[name]) ** 0.5)
    grid = state[name].T.reshape(1, -1, known, known)
    state[name] = F.interpolate(grid, size=(side // PATCH,) * 2, mode="bicubic", align_corners=False).flatten(2)[0].T
    finer.load_state_dict(state)
    finer.tie_weights()
    return finer


@torch.no_grad()
def _initialise(network: PaliGemmaForConditionalGeneration, first_location: int) -> None:
    """Matrices by fan-in, output projections halved; locations and positions as waves, so that neighbours start out alike."""
    for name, weight in network.named_parameters():
        if weight.ndim == 2 and "embed" not in name:
            weight.normal_(0, 1 / math.sqrt(weight.shape[1]))
        if name.endswith(("out_proj.weight", "fc2.weight", "o_proj.weight", "down_proj.weight")):
            weight.mul_(0.5)
    embeddings = network.model.vision_tower.embeddings
    embeddings.position_embedding.weight.copy_(_grid_waves(GRID, HIDDEN) * 0.5)
    table = network.model.language_model.embed_tokens.weight
    table.normal_(0, 0.03)
    table[first_location : first_location + LOCATIONS] = _line_waves(LOCATIONS, HIDDEN) * 0.04 * math.sqrt(2)
    kernel, bias = _principal_patches()
    embeddings.patch_embedding.weight.copy_(kernel.view_as(embeddings.patch_embedding.weight))
    embeddings.patch_embedding.bias.copy_(bias)


def _line_waves(count: int, width: int) -> Tensor:
    """[count, width]: sines and cosines of the number at periods from 12 to 2048."""
    periods = 12.0 * (2048.0 / 12.0) ** (torch.arange(width // 2).float() / (width // 2 - 1))
    angles = 2 * math.pi * torch.arange(count).float()[:, None] / periods
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _grid_waves(side: int, width: int) -> Tensor:
    """[side * side, width]: half of it tells the row, half the column."""
    rates = math.pi / 2 / 100 ** (torch.arange(width // 4).float() / (width // 4))
    angles = ((torch.arange(side).float() + 0.5) * (8 / side))[:, None] * rates
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = line[:, None].expand(side, side, -1), line[None].expand(side, side, -1)
    return torch.cat([rows, columns], dim=-1).reshape(side * side, -1)


def _principal_patches(scenes: int = 2000, seed: int = 5) -> tuple[Tensor, Tensor]:
    """Whiten drawn patches along their principal directions, randomly turned: a kernel [hidden, 3 * patch * patch] and its bias."""
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(scenes):
        levels = np.asarray(draw_scene(make_scene(rng, SceneKind()), SIDE, from_stock=True), np.float32) / 127.5 - 1
        patches = levels.reshape(GRID, PATCH, GRID, PATCH, 3).transpose(0, 2, 4, 1, 3).reshape(GRID * GRID, -1)
        samples.append(patches[rng.choice(GRID * GRID, 16, replace=False)])
    seen = torch.from_numpy(np.concatenate(samples))
    mean = seen.mean(dim=0)
    variances, directions = torch.linalg.eigh((seen - mean).T @ (seen - mean) / len(seen))
    variances, directions = variances.flip(0)[:HIDDEN].clamp(min=0), directions.flip(1)[:, :HIDDEN]
    whitening = (directions / (variances + 1e-3 * variances[0]).sqrt()).T
    turn = torch.linalg.qr(torch.randn(HIDDEN, HIDDEN, generator=torch.Generator().manual_seed(seed)))[0]
    kernel = turn @ whitening
    return kernel, -kernel @ mean
