"""What an instance will take of memory, by its configuration alone: nothing is loaded to know it."""

from dataclasses import dataclass

from transformers import PaliGemmaConfig

from service.model.graphs import doubling, read_sizes
from service.model.linear import packs_on
from service.model.quantizing import quantized_bytes

ROUGHNESS = 2.5
"""Times what a step's own tensors take: as measured, with what products need beside them and what allocators keep."""

GRAPH_BYTES = 2_000_000
"""Of one recorded step's launches."""
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class Shape:
    """How an instance is to be run. ``prefill_tokens``: of a step at most; ``copies``: processes that each hold all of it."""

    device: str
    dtype: str
    slots: int
    text_tokens: int
    prompt_tokens: int
    prefill_tokens: int
    cache_bytes: int
    copies: int
    images: int = 1
    adapters: int = 0
    adapter_rank: int = 0
    quantization: str | None = None


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes of one instance on its device, all copies together. ``cache`` is what the vision cache may grow to.

    ``graphs``: what the recorded decode steps of a CUDA device keep.
    """

    weights: int
    slots: int
    activations: int
    graphs: int
    cache: int

    @property
    def needed(self) -> int:
        """What it takes once it is warm; its cache grows later."""
        return self.weights + self.slots + self.activations + self.graphs

    @property
    def total(self) -> int:
        """What it may come to."""
        return self.needed + self.cache


def parameters(config: PaliGemmaConfig) -> int:
    """Numbers that a checkpoint holds, the shared embedding once."""
    vision, text = config.vision_config, config.text_config
    width, inner = vision.hidden_size, vision.intermediate_size
    patches = (vision.image_size // vision.patch_size) ** 2
    layer = 4 * width + 4 * (width * width + width) + 2 * width * inner + inner + width
    tower = width * (3 * vision.patch_size**2 + 1) + patches * width + vision.num_hidden_layers * layer + 2 * width
    projector = (width + 1) * vision.projection_dim
    block = _block(config) + text.hidden_size * (4 if text.model_type == "gemma2" else 2)
    return int(tower + projector + text.vocab_size * text.hidden_size + text.num_hidden_layers * block + text.hidden_size)


def _block(config: PaliGemmaConfig) -> int:
    """Numbers of a decoder layer's matrices."""
    text = config.text_config
    queries, pairs = text.num_attention_heads * text.head_dim, text.num_key_value_heads * text.head_dim
    return int(text.hidden_size * (2 * queries + 2 * pairs + 3 * text.intermediate_size))


def slot_bytes(config: PaliGemmaConfig, shape: Shape) -> int:
    """Keys and values of one slot."""
    text = config.text_config
    length = shape.images * image_tokens(config) + shape.text_tokens
    return int(2 * text.num_hidden_layers * text.num_key_value_heads * length * text.head_dim * ITEM_BYTES[shape.dtype])


def plan(config: PaliGemmaConfig, shape: Shape) -> MemoryPlan:
    """The sum for an instance."""
    item, text = ITEM_BYTES[shape.dtype], config.text_config
    weights = parameters(config) * item
    if shape.quantization:
        linear = text.num_hidden_layers * _block(config)
        weights += quantized_bytes(linear, shape.quantization, item) - linear * item
    if packs_on(shape.device, shape.dtype):
        # The head is the embedding, once as rows to look up and once laid out for products.
        weights += text.vocab_size * text.hidden_size * item
    weights += shape.adapters * shape.adapter_rank * _adapter_width(config) * item
    held = (weights, shape.slots * slot_bytes(config, shape), _activations(config, shape), _graphs(config, shape))
    weights, slots, activations, graphs = (shape.copies * each for each in held)
    return MemoryPlan(weights, slots, activations, graphs, shape.cache_bytes)


def _adapter_width(config: PaliGemmaConfig) -> int:
    """Numbers that an adapter of rank 1 on every layer would have, with the products' layers side by side: see ``low_rank``."""
    vision, text = config.vision_config, config.text_config
    queries, pairs = text.num_attention_heads * text.head_dim, text.num_key_value_heads * text.head_dim
    # Each layer has its own rows in its product's matrices, which are as wide as the product.
    block = 3 * (text.hidden_size + queries + 2 * pairs) + 2 * (text.hidden_size + 2 * text.intermediate_size)
    block += queries + 2 * text.hidden_size + text.intermediate_size
    width, inner = vision.hidden_size, vision.intermediate_size
    layer = 3 * 4 * width + 2 * width + 2 * (width + inner)
    projector = width + vision.projection_dim
    return int(text.num_hidden_layers * block + vision.num_hidden_layers * layer + projector)


def image_tokens(config: PaliGemmaConfig) -> int:
    """Tokens of one picture."""
    vision = config.vision_config
    return int((vision.image_size // vision.patch_size) ** 2)


def _graphs(config: PaliGemmaConfig, shape: Shape) -> int:
    """Each recorded step keeps its own logits, and its launches; they share what lies between. Worked out, not measured."""
    if not shape.device.startswith("cuda"):
        return 0
    tokens = image_tokens(config)
    rows, reads = doubling(1, shape.slots), read_sizes(tokens, shape.images * tokens + shape.text_tokens)
    logits = sum(rows) * len(reads) * config.text_config.vocab_size * ITEM_BYTES[shape.dtype]
    return int((2 if shape.adapters else 1) * (logits + len(rows) * len(reads) * GRAPH_BYTES))


def _activations(config: PaliGemmaConfig, shape: Shape) -> int:
    """The largest step: a prefill full of prompts, with all of their pictures; the two do not live at the same time."""
    vision, text = config.vision_config, config.text_config
    tokens = max(shape.prefill_tokens, shape.images * image_tokens(config) + shape.prompt_tokens)
    # Products in int8 come out in 32 bits.
    item = 4 if shape.quantization == "int8-dynamic" else ITEM_BYTES[shape.dtype]
    queries, pairs = text.num_attention_heads * text.head_dim, text.num_key_value_heads * text.head_dim
    decoder = tokens * (3 * text.hidden_size + 2 * queries + 2 * pairs + 2 * text.intermediate_size) * item
    pictures = -(-tokens // image_tokens(config)) * image_tokens(config)
    tower = pictures * (6 * vision.hidden_size + 2 * vision.intermediate_size) * item
    rows = max(shape.slots, tokens // (image_tokens(config) + 1))
    logits = rows * text.vocab_size * 4 * 2
    # A layer of smaller weights is made whole for its products.
    whole = text.hidden_size * text.intermediate_size * item if shape.quantization else 0
    return int(ROUGHNESS * (max(decoder, tower) + logits + whole))
