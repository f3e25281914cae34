"""Smaller weights, by torchao: the decoder's linear layers in eight bits or four. Tower, projector and embeddings stay as they are.

| kind         | weights | products                          | on                          |
|--------------|---------|-----------------------------------|-----------------------------|
| int8         | 8 bits  | in the instance's dtype           | CPU and CUDA                |
| int8-dynamic | 8 bits  | in int8, each row scaled as asked | CPU and CUDA                |
| int4         | 4 bits  | in bfloat16, groups of 128        | CUDA, with dtype bfloat16   |
"""

from typing import Any

import torch
from torch import nn
from transformers import PaliGemmaForConditionalGeneration

from service.errors import OperatorError

INT4_GROUP = 128
BITS = {"int8": 8, "int8-dynamic": 8, "int4": 4}


class QuantizationError(OperatorError):
    """Weights cannot be held so here."""


def check_quantization(kind: str, dtype: str, device: str) -> None:
    """Errors: QuantizationError, which says what would do."""
    if kind == "int4" and (not device.startswith("cuda") or dtype != "bfloat16"):
        raise QuantizationError(
            f"quantization int4 needs a CUDA device and dtype bfloat16, not {device} and {dtype}: torchao has no such products for a CPU. "
            "int8 and int8-dynamic work there."
        )
    if dtype == "float16" and device == "cpu":
        raise QuantizationError(f"quantization {kind} on a CPU needs dtype float32 or bfloat16, not float16.")


@torch.no_grad()
def quantize(model: PaliGemmaForConditionalGeneration, kind: str) -> None:
    """Replace the weights of the decoder's layers. Errors: QuantizationError where torchao is not here."""
    try:
        from torchao.quantization import (  # noqa: PLC0415 (an extra, and slow to import)
            Int4WeightOnlyConfig,
            Int8DynamicActivationInt8WeightConfig,
            Int8WeightOnlyConfig,
            quantize_,
        )
    except ImportError:
        raise QuantizationError("quantization needs torchao: pip install 'paliserve[quantization]'.") from None
    configs: dict[str, Any] = {
        "int8": Int8WeightOnlyConfig,
        "int8-dynamic": Int8DynamicActivationInt8WeightConfig,
        "int4": lambda: Int4WeightOnlyConfig(group_size=INT4_GROUP, int4_packing_format="tile_packed_to_4d"),
    }
    for layer in model.model.language_model.layers:
        quantize_(layer, configs[kind](), filter_fn=lambda module, name: isinstance(module, nn.Linear))


def quantized_bytes(numbers: int, kind: str, item: int) -> int:
    """What so many weights take; the scales, one for each row or group, are about a hundredth more."""
    scales = numbers // INT4_GROUP * 2 * item if kind == "int4" else numbers // 512 * item
    return numbers * BITS[kind] // 8 + scales
