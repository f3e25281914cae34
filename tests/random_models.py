"""Tiny PaliGemma 1 and 2 of the real architecture with random weights, whose answers vary; and the reference to compare with."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

from service.engine.generation import Generation, Picture, Prompt
from service.model.vision import Normalisation

SIDE = 56
IMAGE_TOKENS = 16
VOCABULARY = 1200
END_TOKENS = tuple(range(1, 40, 2))
"""Many end tokens, so that answers stop at varied lengths."""

NORMALISATION = Normalisation(1 / 255, (0.5,) * 3, (0.29,) * 3)
"""Pixels of noise then have about the deviation 1."""

NEAR_TIE = 1e-4
"""Two logits closer than this part of their scale may change places between two correct computations."""


def random_model(paligemma2: bool, seed: int = 0, sliding_window: int = 4096) -> PaliGemmaForConditionalGeneration:
    """A model of 16 image tokens whose weights are scaled so that different prompts get different answers."""
    torch.manual_seed(seed)
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "image_size": SIDE, "patch_size": 14, "vision_use_head": False, "projection_dim": 96,
    }  # fmt: skip
    text: dict[str, object] = {
        "model_type": "gemma2" if paligemma2 else "gemma", "hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2 if paligemma2 else 1, "head_dim": 24, "vocab_size": VOCABULARY,
        "max_position_embeddings": 2048, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1,
    }  # fmt: skip
    if paligemma2:
        text |= {
            "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
            "query_pre_attn_scalar": 24, "sliding_window": sliding_window,
        }  # fmt: skip
    config = PaliGemmaConfig(
        vision_config=vision, text_config=text, image_token_index=VOCABULARY - 1, projection_dim=96, hidden_size=96,
        num_image_tokens=IMAGE_TOKENS, pad_token_id=0, bos_token_id=2, eos_token_id=1,
    )  # fmt: skip
    # Eager, because the scaled-dot-product path of transformers 5.17 leaves Gemma 2's soft-cap out.
    attention = {"attn_implementation": "eager"} if paligemma2 else {}
    model = PaliGemmaForConditionalGeneration._from_config(config, **attention).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "embed_tokens" in name or "lm_head" in name:
                weight.normal_(0, 0.3 * 96**-0.5)
            elif "position_embedding" in name:
                weight.normal_(0, 0.5)
            elif weight.ndim == 4:
                weight.normal_(0, 3 * weight[0].numel() ** -0.5)
            elif weight.ndim == 2:
                sharper = "language_model" in name and ("q_proj" in name or "k_proj" in name)
                weight.normal_(0, (2.5 if sharper else 1.3) * weight.shape[1] ** -0.5)
            elif "language_model" in name:
                weight.normal_(0, 0.1)
    model.generation_config.eos_token_id = list(END_TOKENS)
    model.generation_config.pad_token_id = 0
    return model


def random_generations(count: int, seed: int, longest_prompt: int = 24, most_tokens: int = 40, most_pictures: int = 1) -> list[Generation]:
    """Distinct pictures (a few of them asked twice), prompt lengths 2..``longest_prompt``, budgets 1..``most_tokens``."""
    chance, noise = random.Random(seed), np.random.default_rng(seed)
    pictures = [noise.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(max(1, count * 3 // 4))]
    generations = []
    for index in range(count):
        words = [chance.randrange(100, VOCABULARY - 10) for _ in range(chance.randint(0, longest_prompt - 2))]
        shown = 1 if most_pictures == 1 else chance.randint(1, most_pictures)
        mine = tuple(Picture(pictures[(index + further) % len(pictures)], (SIDE, SIDE)) for further in range(shown))
        prompt = Prompt(mine, (2, *words, 50))
        generations.append(Generation(prompt, max_tokens=chance.randint(1, most_tokens)))
    return generations


def pixel_values(pixels: torch.Tensor, normalisation: Normalisation = NORMALISATION) -> torch.Tensor:
    """As transformers lays them out: float32 [..., 3, side, side] of uint8 [..., side, side, 3]."""
    return normalisation.prepared(pixels.shape[-2], pixels.device)(pixels.flatten(-2)).view(pixels.shape).movedim(-1, -3)


@dataclass(frozen=True)
class Reference:
    """What ``generate()`` answers alone: tokens without the end token, and the logits of each step [tokens, vocabulary]."""

    tokens: tuple[int, ...]
    logits: torch.Tensor


@torch.no_grad()
def reference(model: PaliGemmaForConditionalGeneration, generation: Generation, end_tokens: Sequence[int]) -> Reference:
    """Ask transformers' own greedy ``generate()``, one prompt by itself."""
    image = model.config.image_token_id
    side = model.config.vision_config
    count = (side.image_size // side.patch_size) ** 2
    shown = generation.prompt.pictures
    pixels = torch.from_numpy(np.stack([np.asarray(each.pixels) for each in shown]))
    ids = torch.tensor([[image] * count * len(shown) + list(generation.prompt.tokens)])
    output = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), token_type_ids=torch.zeros_like(ids),
        pixel_values=pixel_values(pixels).to(model.dtype), max_new_tokens=generation.max_tokens,
        do_sample=False, output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    tokens = output.sequences[0, ids.shape[1] :].tolist()
    logits = torch.cat(output.logits)
    if tokens and tokens[-1] in end_tokens:
        tokens = tokens[:-1]
    return Reference(tuple(tokens), logits)


def is_near_tie(expected: Reference, position: int) -> bool:
    """Whether the reference's two best logits at ``position`` are so close that rounding may choose between them."""
    best = torch.topk(expected.logits[position].float(), 2).values
    return bool((best[0] - best[1]) < NEAR_TIE * expected.logits[position].abs().max())


def first_difference(left: Sequence[int], right: Sequence[int]) -> int:
    """The first position at which two token lists differ; a list that ended earlier differs there."""
    for position, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return position
    return min(len(left), len(right))
