"""The files that hold a checkpoint's weights: which they are, and whether they hold what its config promises, before memory is taken."""

import json
import re
from collections import Counter
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")
LARGEST_HEADER = 16_000_000
"""Bytes. A real one has less than a tenth of a megabyte; the format's own library takes a hundred, and makes objects of them."""

LARGEST_INDEX = 16_000_000
NUMBERS = ("F32", "F16", "BF16")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt", "*.h5", "*.msgpack", "*.npz")


class WeightFileError(Exception):
    """What is wrong, as one line."""


def weight_files(folder: Path) -> list[Path]:
    """The one file, or those that an index names. Errors: WeightFileError."""
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    index = folder / INDEX
    if not index.is_file():
        others = sorted({path.name for pattern in PICKLES for path in folder.glob(pattern)})
        beside = f" {', '.join(others[:3])}:" if others else ""
        raise WeightFileError(f"no safetensors weights;{beside} other formats can run code when they are read, and are refused.")
    try:
        if index.stat().st_size > LARGEST_INDEX:
            raise WeightFileError(f"{INDEX} has more than {LARGEST_INDEX} bytes.")
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise WeightFileError(f"{INDEX} cannot be read: an object with a weight_map is needed.") from None
    for name in names:
        if not isinstance(name, str) or not PLAIN_NAME.fullmatch(name):
            raise WeightFileError(f"{INDEX} names a file that is no safetensors file of this folder.")
        if not (folder / name).is_file():
            raise WeightFileError(f"{name} is not there, and {INDEX} names it.")
    return [folder / name for name in sorted(names)]


def check_weights(files: list[Path], config: PaliGemmaConfig) -> None:
    """Every parameter that ``config`` describes must have a tensor of its shape in the files. Errors: WeightFileError."""
    with torch.device("meta"):
        model = PaliGemmaForConditionalGeneration(config)
    wanted = Counter(tuple(each.shape) for each in model.parameters())
    held = Counter(shape for path in files for shape in shapes(path).values())
    missing = wanted - held
    if missing:
        shape, count = next(iter(missing.items()))
        raise WeightFileError(f"the weights are not those of config.json, by which there are {count} more tensors of shape {list(shape)}.")


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a file, by its header alone, which the format's library holds against the file's size.

    Errors: WeightFileError, SafetensorError, OSError.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > LARGEST_HEADER:
        raise WeightFileError(f"{path.name} says that its header has {length} bytes; at most {LARGEST_HEADER} are read.")
    found = {}
    try:
        with safe_open(path, framework="pt") as held:
            for name in held.keys():  # noqa: SIM118 (it is no mapping)
                tensor = held.get_slice(name)
                if tensor.get_dtype() not in NUMBERS:
                    raise WeightFileError(f"{path.name} holds {name} as {tensor.get_dtype()}; {', '.join(NUMBERS)} are read.")
                found[name] = tuple(tensor.get_shape())
    except SafetensorError as error:
        raise WeightFileError(f"{path.name} cannot be read: {error}") from error
    except RuntimeError:
        # torch's word for a file that the system refuses to map.
        raise WeightFileError(
            f"{path.name} has {path.stat().st_size / 1e9:.1f} GB, which is more than this machine has memory for."
        ) from None
    return found
