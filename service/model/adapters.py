"""Reading LoRA adapters as peft writes them: ``adapter_config.json`` and ``adapter_model.safetensors``, and nothing that runs."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from service.errors import OperatorError
from service.model.hub import HUB_ID, FetchError, fetch
from service.model.weight_files import WeightFileError, shapes

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
REFUSED_OPTIONS = (
    "use_dora",
    "modules_to_save",
    "alpha_pattern",
    "layer_replication",
    "trainable_token_indices",
    "use_qalora",
    "lora_bias",
    "alora_invocation_tokens",
)
"""Options of peft's that change what an adapter computes, and are not served."""
PLAIN_STARTS = frozenset({"gaussian", "eva"})
"""Ways to begin an adapter, by name, that leave its base as it is. Others change the base, and need peft's own conversion."""

_LAYER = re.compile(r"\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)\.lora_([AB])\.weight$")
_PROJECTOR = re.compile(r"multi_modal_projector\.(linear)\.lora_([AB])\.weight$")


class AdapterError(OperatorError):
    """An adapter cannot be served."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """``modules``: the products it changes, each with its down [rank, in] and up [out, rank] matrix; the latter is scaled already.

    ``base`` is the checkpoint that it says it was trained on; empty where it does not say.
    """

    modules: Mapping[str, tuple[Tensor, Tensor]]
    base: str

    @property
    def rank(self) -> int:
        """The largest of its ranks."""
        return max(len(down) for down, _ in self.modules.values())

    @property
    def sees(self) -> bool:
        """Whether it changes how pictures are seen, not only what is written about them."""
        return any(not name.startswith("text.") for name in self.modules)


def adapter_folder(source: str, revision: str | None = None) -> Path:
    """The folder of an adapter; a hub id is fetched first. Errors: AdapterError."""
    folder = Path(source)
    if folder.is_dir():
        return folder
    if not HUB_ID.fullmatch(source):
        raise AdapterError(f"{source}: neither a folder nor a hub id of an adapter.")
    try:
        return fetch(source, revision)
    except FetchError as error:
        raise AdapterError(str(error)) from error


def read_adapter(folder: Path) -> Adapter:
    """Errors: AdapterError, which says what is not as peft's LoRA writes it, or is not served."""
    config = _config(folder)
    if not (folder / WEIGHTS).is_file():
        raise AdapterError(f"{folder}: no {WEIGHTS}; other formats can run code when they are read, and are refused.")
    try:
        shapes(folder / WEIGHTS)
        tensors = load_file(folder / WEIGHTS)
    except WeightFileError as error:
        raise AdapterError(f"{folder}: {error}") from error
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{folder}: {WEIGHTS} cannot be read: {error}") from error
    halves: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, half = _named(folder, key)
        halves.setdefault(name, {})[half] = tensor
    if not halves:
        raise AdapterError(f"{folder}: {WEIGHTS} holds no matrices.")
    modules = {}
    for name, pair in halves.items():
        down, up = pair.get("A"), pair.get("B")
        if down is None or up is None or down.ndim != 2 or up.ndim != 2 or not 0 < len(down) == up.shape[1]:
            raise AdapterError(f"{folder}: {name} needs a matrix lora_A [rank, in] and a matrix lora_B [out, rank].")
        alpha = float(config.get("lora_alpha", 8))
        modules[name] = down, up * (alpha / math.sqrt(len(down)) if config.get("use_rslora") else alpha / len(down))
    return Adapter(modules, str(config.get("base_model_name_or_path") or ""))


def check_adapter(adapter: Adapter, name: str, widths: Mapping[str, tuple[int, int]], rank: int) -> None:
    """``widths``: in and out of every product that can be adapted. Errors: AdapterError where the adapter was made for another base."""
    if adapter.rank > rank:
        raise AdapterError(f"{name}: its rank is {adapter.rank}, and the instance takes {rank} at most: set max_adapter_rank.")
    for module, (down, up) in adapter.modules.items():
        if module not in widths:
            raise AdapterError(f"{name}: it changes {module}, which this base does not have: it was made for another one.")
        wanted, found = widths[module], (down.shape[1], up.shape[0])
        if wanted != found:
            raise AdapterError(f"{name}: its {module} is {found[0]} to {found[1]}, the base's {wanted[0]} to {wanted[1]}: another base.")


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(f"{folder}: no readable {CONFIG}: a LoRA adapter as peft saves it is needed.") from error
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise AdapterError(f"{folder}: {CONFIG} is of kind {kind!r}; LORA is served.")
    asked = [name for name in REFUSED_OPTIONS if config.get(name)]
    if config.get("bias", "none") != "none":
        asked.append("bias")
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start not in PLAIN_STARTS:
        asked.append(f"init_lora_weights = {start}, which changes its base")
    if asked:
        raise AdapterError(f"{folder}: {CONFIG} asks for {', '.join(asked)}, which is not served: merge the adapter into its base.")
    alpha = config.get("lora_alpha", 8)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise AdapterError(f"{folder}: {CONFIG} has no number as lora_alpha.")
    return dict(config)


def _named(folder: Path, key: str) -> tuple[str, str]:
    """The product that a tensor belongs to, as the runner calls it, and which half it is. transformers changed its names in 4.52."""
    layer, projector = _LAYER.search(key), _PROJECTOR.search(key)
    if layer and ("language_model" in key or "vision_tower" in key):
        return f"{'text' if 'language_model' in key else 'vision'}.{layer[1]}.{layer[2]}", layer[3]
    if projector:
        return f"projector.{projector[1]}", projector[2]
    raise AdapterError(f"{folder}: {key} is not a part that can be adapted here: the linear layers of decoder, tower and projector can.")
