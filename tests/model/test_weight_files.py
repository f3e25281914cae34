"""Weights of strangers: what is no plain numbers of the shapes that are promised is refused before memory is taken for it."""

import json
import os
import pickle
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

import service.demo
from service.model.adapters import AdapterError, read_adapter
from service.model.loading import CheckpointError, Source, load_model, open_checkpoint
from service.model.weight_files import WeightFileError, check_weights, shapes, weight_files
from tests.random_models import random_model

DEMO = Path(service.demo.__file__).parent
CHECKPOINT = DEMO / "checkpoints" / "shapes-224"
ADAPTER = DEMO / "adapters" / "part-codes-224"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


class Payload:
    """Leaves a mark where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._marker),)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the embedded checkpoint, to be spoilt."""
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "checkpoint"))


def refuse(folder: Path, words: str) -> None:
    """Before any weights are read."""
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(Source(str(folder), device="cpu"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl", "pytorch_model.bin.index.json"])
def test_threat_61_pickles_are_refused_and_never_opened(folder: Path, tmp_path: Path, name: str) -> None:
    marker = tmp_path / "marker"
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(pickle.dumps(Payload(marker)))
    refuse(folder, r"no safetensors weights.*other formats can run code")
    shutil.copy(CHECKPOINT / WEIGHTS, folder)
    # Beside safetensors it is not looked at.
    load_model(open_checkpoint(Source(str(folder), device="cpu")).weights)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists()


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.pt"])
def test_threat_61_a_pickled_adapter_is_refused_and_never_opened(tmp_path: Path, name: str) -> None:
    marker, folder = tmp_path / "marker", tmp_path / "adapter"
    shutil.copytree(ADAPTER, folder)
    (folder / "adapter_model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Payload(marker)))
    with pytest.raises(AdapterError, match=r"no adapter_model\.safetensors; other formats can run code"):
        read_adapter(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    ["pytorch_model.bin", "../model.safetensors", "/etc/model.safetensors", "..", "a/b.safetensors", "a\\b.safetensors", "", 7, None],
)
def test_threat_63_an_index_names_safetensors_of_its_folder_only(folder: Path, name: object) -> None:
    (folder / WEIGHTS).rename(folder.parent / WEIGHTS)
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
    refuse(folder, "names a file that is no safetensors file of this folder")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 1}', '{"weight_map": {"a": []}}', "[" * 100_000])
def test_threat_63_an_index_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / WEIGHTS).unlink()
    (folder / INDEX).write_text(text)
    refuse(folder, f"{INDEX} (cannot be read|names a file)")


def test_threat_63_a_file_that_an_index_names_must_be_there(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))
    refuse(folder, r"model-00001-of-00002\.safetensors is not there")


def written(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    """A file of safetensors with this header, which may say another length of itself."""
    told = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(told) if length is None else length) + told + data)
    return path


def tensor(dtype: str = "F32", shape: list[Any] | None = None, offsets: list[Any] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [2] if shape is None else shape, "data_offsets": [0, 8] if offsets is None else offsets}


LYING = {
    "a header longer than the file": ({"a": tensor()}, 5000),
    "a header of exabytes": ({"a": tensor()}, 2**63),
    "a header of 90 megabytes": ({"a": tensor()}, 90_000_000),
    "no header": (b"", 0),
    "no JSON": (b"{" * 100, None),
    "deep JSON": (b'{"a":' * 50_000, None),
    "offsets behind the end": ({"a": tensor(offsets=[0, 800])}, None),
    "offsets turned round": ({"a": tensor(offsets=[8, 0])}, None),
    "negative offsets": ({"a": tensor(offsets=[-8, 8])}, None),
    "a shape of more than its bytes": ({"a": tensor(shape=[2**40])}, None),
    "a shape that overflows": ({"a": tensor(shape=[2**33, 2**33])}, None),
    "a negative shape": ({"a": tensor(shape=[-2])}, None),
    "overlapping tensors": ({"a": tensor(), "b": tensor()}, None),
    "a hole": ({"a": tensor(), "b": tensor(offsets=[12, 20])}, None),
    "an unknown type": ({"a": tensor(dtype="PICKLE")}, None),
    "whole numbers": ({"a": tensor(dtype="I32")}, None),
}


@pytest.mark.parametrize("name", LYING)
def test_threat_63_a_lying_header_is_refused_before_memory_is_taken(folder: Path, name: str) -> None:
    header, length = LYING[name]
    path = written(folder / WEIGHTS, header, bytes(8), length)
    with pytest.raises(WeightFileError):
        shapes(path)
    refuse(folder, WEIGHTS)


def test_threat_63_weights_of_other_shapes_than_the_config_tells(folder: Path) -> None:
    for name, factor in (("hidden_size", 4096), ("intermediate_size", 1 << 30), ("num_hidden_layers", 3)):
        config = json.loads((CHECKPOINT / "config.json").read_text())
        config["text_config"][name] = factor * (config["text_config"][name] if factor == 3 else 1)
        (folder / "config.json").write_text(json.dumps(config))
        refuse(folder, "the weights are not those of config.json")


def test_threat_63_an_adapter_of_a_lying_header_is_refused(tmp_path: Path) -> None:
    shutil.copytree(ADAPTER, tmp_path / "adapter")
    written(tmp_path / "adapter" / "adapter_model.safetensors", {"a": tensor()}, bytes(8), 90_000_000)
    with pytest.raises(AdapterError, match="its header has 90000000 bytes"):
        read_adapter(tmp_path / "adapter")


def test_weights_in_several_files_are_read(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for name, mine in parts.items():
        save_file({each: tensors[each] for each in mine}, folder / name, metadata={"format": "pt"})
    (folder / WEIGHTS).unlink()
    told = {"metadata": {}, "weight_map": {each: name for name, mine in parts.items() for each in mine}}
    (folder / INDEX).write_text(json.dumps(told))
    assert [path.name for path in weight_files(folder)] == sorted(parts)
    load_model(open_checkpoint(Source(str(folder), device="cpu")).weights)


@pytest.mark.parametrize("paligemma2", [False, True])
def test_what_transformers_saves_is_taken(tmp_path: Path, paligemma2: bool) -> None:
    model: PaliGemmaForConditionalGeneration = random_model(paligemma2)
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    check_weights(weight_files(tmp_path), PaliGemmaConfig.from_pretrained(tmp_path))
