"""Writes the checkpoint in Hugging Face form, in half precision, with its mask decoder."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GenerationConfig, PaliGemmaForConditionalGeneration, PaliGemmaProcessor, PreTrainedTokenizerFast

from service.demo.codec import MaskCodec

try:
    from transformers import SiglipImageProcessorPil as ImageProcessor
except ImportError:
    from transformers import SiglipImageProcessor as ImageProcessor


def export(folder: Path, network: PaliGemmaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, codec: MaskCodec | None) -> None:
    """Without a codec where the mask decoder is another checkpoint's.

    After this ``from_pretrained(folder)`` of model and processor work with nothing of ours imported.
    """
    folder.mkdir(parents=True, exist_ok=True)
    special = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    network.generation_config = GenerationConfig(do_sample=False, max_new_tokens=128, **special)
    network.to(torch.float16).save_pretrained(folder)
    side = network.config.vision_config.image_size
    image_processor = ImageProcessor(size={"height": side, "width": side}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    image_processor.image_seq_length = (side // network.config.vision_config.patch_size) ** 2
    PaliGemmaProcessor(image_processor, tokenizer).save_pretrained(folder)
    if codec is not None:
        save_file(codec.exported(), folder / "mask_decoder.safetensors")
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors are written for their owner only
