"""The medium model: 140 million random parameters, 256 image tokens, with the embedded model's tokenizer."""

import shutil
from pathlib import Path

import torch
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

from service.wiring import demo_settings

VOCABULARY = 1602
VISION = {
    "model_type": "siglip_vision_model", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 7, "num_attention_heads": 12,
    "image_size": 224, "patch_size": 14, "vision_use_head": False, "projection_dim": 768,
}  # fmt: skip
TEXT = {
    "model_type": "gemma", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 10, "num_attention_heads": 4,
    "num_key_value_heads": 1, "head_dim": 192, "vocab_size": VOCABULARY, "max_position_embeddings": 2048,
    "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1,
}  # fmt: skip


def make_medium(folder: Path) -> int:
    """Write the checkpoint; returns its parameters. It never ends an answer: every request says how long its own is to be."""
    torch.manual_seed(0)
    embedded = Path(demo_settings().source)
    image_token = PaliGemmaConfig.from_pretrained(embedded).image_token_id
    config = PaliGemmaConfig(
        vision_config=VISION, text_config=TEXT, image_token_index=image_token, projection_dim=768, hidden_size=768,
        num_image_tokens=256, pad_token_id=0, bos_token_id=2, eos_token_id=1,
    )  # fmt: skip
    model = PaliGemmaForConditionalGeneration._from_config(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "embed_tokens" in name or "lm_head" in name:
                weight.normal_(0, 0.3 * 768**-0.5)
            elif "position_embedding" in name:
                weight.normal_(0, 0.5)
            elif weight.ndim == 4:
                weight.normal_(0, 3 * weight[0].numel() ** -0.5)
            elif weight.ndim == 2:
                sharper = "language_model" in name and ("q_proj" in name or "k_proj" in name)
                weight.normal_(0, (2.5 if sharper else 1.3) * weight.shape[1] ** -0.5)
            elif "language_model" in name:
                weight.normal_(0, 0.1)
    # An end that is no token of the vocabulary's: null would not be stored.
    model.generation_config.eos_token_id = [VOCABULARY + 1]
    model.save_pretrained(folder)
    for path in embedded.iterdir():
        if "token" in path.name or "process" in path.name:
            shutil.copy(path, folder / path.name)
    settings = (folder / "processor_config.json", folder / "preprocessor_config.json")
    for path in settings:
        if path.is_file():
            path.write_text(path.read_text().replace('"image_seq_length": 64', '"image_seq_length": 256'))
    return sum(weight.numel() for weight in model.parameters())
