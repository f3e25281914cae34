"""A random PaliGemma of about 140 million parameters: 256 image tokens, a SigLIP-like tower, a Gemma-like text model with one KV head.

A third of the arithmetic of a prefill is vision.
Weights are seeded and scaled so that different prompts get different answers. It has no end token: answers are as long as their budget.
Written to a folder by ``python -m load_tests.rivals.medium_model FOLDER``.
"""

import sys
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PaliGemmaForConditionalGeneration, PreTrainedTokenizerFast

SIDE, PATCH = 224, 14
IMAGE_TOKENS = (SIDE // PATCH) ** 2
VISION = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8}
TEXT = {"hidden_size": 768, "intermediate_size": 2304, "num_hidden_layers": 12, "num_attention_heads": 4, "head_dim": 192}
SYLLABLES = [consonant + vowel for consonant, vowel in product("bdfgklmnprstvz", "aeiou")]
WORDS = ["".join(syllables) for syllables in product(SYLLABLES, SYLLABLES, ("", "x"))]
"""Each is one token, so that a prompt has as many tokens as words (blanks are tokens too)."""


def main(folder: Path) -> None:
    """Write model, tokenizer and processor, as the embedded checkpoint is written."""
    from transformers import PaliGemmaProcessor, SiglipImageProcessorPil  # noqa: PLC0415

    tokenizer = _tokenizer()
    model = _model(tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    image_processor = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    image_processor.image_seq_length = IMAGE_TOKENS
    PaliGemmaProcessor(image_processor, tokenizer).save_pretrained(folder)
    print(f"{sum(weight.numel() for weight in model.parameters()) / 1e6:.0f} M parameters, {len(tokenizer)} tokens")


def _tokenizer() -> "PreTrainedTokenizerFast":
    """The demo's tokenizer and ``WORDS``."""
    from service.demo.tokenizer import build_tokenizer  # noqa: PLC0415

    tokenizer = build_tokenizer()
    tokenizer.add_tokens(WORDS)
    return tokenizer


def _model(tokenizer: "PreTrainedTokenizerFast") -> "PaliGemmaForConditionalGeneration":
    import torch  # noqa: PLC0415
    from transformers import GenerationConfig, PaliGemmaConfig, PaliGemmaForConditionalGeneration  # noqa: PLC0415

    torch.manual_seed(0)
    special: dict[str, Any] = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.bos_token_id}
    vision = VISION | {
        "model_type": "siglip_vision_model", "image_size": SIDE, "patch_size": PATCH, "vision_use_head": False,
        "projection_dim": TEXT["hidden_size"],
    }  # fmt: skip
    text = TEXT | special | {
        "model_type": "gemma", "num_key_value_heads": 1, "vocab_size": len(tokenizer), "max_position_embeddings": 2048,
        "eos_token_id": None,
    }  # fmt: skip
    config = PaliGemmaConfig(
        vision_config=vision, text_config=text, image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=TEXT["hidden_size"], hidden_size=TEXT["hidden_size"], num_image_tokens=IMAGE_TOKENS, eos_token_id=None, **special,
    )  # fmt: skip
    model = PaliGemmaForConditionalGeneration._from_config(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            _scale(name, weight)
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=None, **special)
    return model


def _scale(name: str, weight: Any) -> None:
    """By fan-in, with sharper attention and a small tied embedding; otherwise every prompt ends in the same answer."""
    if "embed_tokens" in name or "lm_head" in name:
        weight.normal_(0, 0.3 * weight.shape[1] ** -0.5)
    elif "position_embedding" in name:
        weight.normal_(0, 0.5)
    elif weight.ndim == 4:
        weight.normal_(0, 3 * weight[0].numel() ** -0.5)
    elif weight.ndim == 2:
        sharper = "language_model" in name and ("q_proj" in name or "k_proj" in name)
        weight.normal_(0, (2.5 if sharper else 1.3) * weight.shape[1] ** -0.5)
    elif "language_model" in name:
        weight.normal_(0, 0.1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
