"""What a checkpoint says of itself, before any library reads it: nothing that would run code, and nothing but a PaliGemma."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONFIG_FILES = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json", "generation_config.json")
LARGEST_CONFIG = 16_000_000
"""Bytes. Real ones have less than a megabyte."""

PARTS = {"text_config": ("gemma", "gemma2"), "vision_config": ("siglip_vision_model",)}
MOST_LAYERS = 1000
"""More than any model has; each is made, without its weights, before the weights are looked at."""


class ConfigError(Exception):
    """What is wrong, as one line."""


def check_config_files(folder: Path) -> None:
    """Errors: ConfigError."""
    for name in CONFIG_FILES:
        if name == "config.json" or (folder / name).is_file():
            told = _read(folder / name)
            for asked in _code_asked_for(told):
                raise ConfigError(f"{name} asks for code of its own ({asked}), which is never run.")
    _check_paligemma(_read(folder / "config.json"))
    if (folder / "adapter_config.json").is_file():
        # transformers would put it onto the base by itself, and would fetch the base that it names.
        raise ConfigError("adapter_config.json stands beside config.json: give an adapter's folder as an adapter of an instance.")


def _check_paligemma(config: dict[str, Any]) -> None:
    if config.get("model_type") != "paligemma":
        raise ConfigError("config.json is not a PaliGemma's (model_type must be 'paligemma').")
    if config.get("quantization_config"):
        raise ConfigError("config.json is of weights that were quantised already: give whole ones, and quantization.")
    for part, served in PARTS.items():
        told = config.get(part) or {}
        if not isinstance(told, dict) or told.get("model_type", served[0]) not in served:
            raise ConfigError(f"config.json has a {part} that is no PaliGemma's (its model_type must be {' or '.join(served)}).")
        layers = told.get("num_hidden_layers", 1)
        if isinstance(layers, bool) or not isinstance(layers, int) or not 1 <= layers <= MOST_LAYERS:
            raise ConfigError(f"config.json has a {part} of no number of layers from 1 to {MOST_LAYERS}.")


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise ConfigError(f"{path.name} has more than {LARGEST_CONFIG} bytes.")
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise ConfigError(f"no readable {path.name}.") from None
    if not isinstance(told, dict):
        raise ConfigError(f"{path.name} is not an object of JSON.")
    return told


def _code_asked_for(told: object) -> Iterator[str]:
    """Keys, at any depth, by which transformers would import a module of the checkpoint's, or a kernel that somebody put on the hub."""
    if isinstance(told, list):
        for each in told:
            yield from _code_asked_for(each)
    if not isinstance(told, dict):
        return
    for key, value in told.items():
        if key in ("auto_map", "custom_pipelines") or (key.endswith("_implementation") and "/" in json.dumps(value)):
            yield key
        yield from _code_asked_for(value)
