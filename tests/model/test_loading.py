"""Checkpoints: what is read, and what is refused before anything of it could run."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import service.demo
from service.engine.generation import Generation, Prompt
from service.model.images import ImageLimits, ImageReader
from service.model.loading import CheckpointError, Source, held_as, load_model, open_checkpoint
from service.model.paligemma import PaliGemma, ServingOptions

DEMO = Path(service.demo.__file__).parent / "checkpoints" / "shapes-224"
SAMPLE = Path(service.demo.__file__).parent / "samples" / "scene.png"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the embedded checkpoint, to be spoilt."""
    return Path(shutil.copytree(DEMO, tmp_path / "checkpoint"))


def refuse(folder: Path | str, words: str, **source: str | None) -> None:
    with pytest.raises(CheckpointError, match=words):
        load_model(open_checkpoint(Source(str(folder), **source)).weights)  # type: ignore[arg-type]


def test_the_embedded_checkpoint_loads_with_its_mask_decoder() -> None:
    checkpoint = open_checkpoint(Source(str(DEMO), device="cpu"))
    assert (checkpoint.weights.dtype, checkpoint.weights.device) == ("float32", "cpu")
    assert load_model(checkpoint.weights).dtype == torch.float32
    assert checkpoint.mask_decoder == DEMO / "mask_decoder.safetensors"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_precision_answers(dtype: str) -> None:
    model = PaliGemma(open_checkpoint(Source(str(DEMO), dtype=dtype, device="cpu")), ServingOptions(2, 64, 16), ImageReader(ImageLimits()))
    runner = model.make_runner(torch.get_num_threads)
    picture = model.picture(SAMPLE.read_bytes())
    picture.features = runner.encode([picture])[0]
    sampled = runner.prefill([Generation(Prompt((picture,), model.tokens("caption en", False)), max_tokens=4)], 0)
    assert 0 < sampled.probabilities[0] <= 1
    assert 0 < runner.decode(range(1)).probabilities[0] <= 1


@pytest.mark.parametrize(("part", "name"), [("text_config", "hidden_act"), ("vision_config", "hidden_act")])
def test_an_activation_that_is_not_paligemmas_is_refused(folder: Path, part: str, name: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    config[part][name] = "relu"
    (folder / "config.json").write_text(json.dumps(config))
    refuse(folder, "its activation is gelu_pytorch_tanh and relu; PaliGemma's is gelu_pytorch_tanh")


def test_a_checkpoint_without_mask_decoder_paints_none(folder: Path) -> None:
    (folder / "mask_decoder.safetensors").unlink()
    model = PaliGemma(open_checkpoint(Source(str(folder), device="cpu")), ServingOptions(1, 64, 16), ImageReader(ImageLimits()))
    assert not model.paints_masks


def test_a_mask_decoder_that_cannot_be_read_is_refused(folder: Path) -> None:
    (folder / "mask_decoder.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="mask decoder cannot be read"):
        PaliGemma(open_checkpoint(Source(str(folder), device="cpu")), ServingOptions(1, 64, 16), ImageReader(ImageLimits()))


def test_threat_62_code_of_the_checkpoint_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))
    refuse(folder, "auto_map")


def test_threat_61_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "mask_decoder.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    refuse(folder, "safetensors")


def test_another_architecture_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "llava"}))
    refuse(folder, "not a PaliGemma")


def test_damaged_weights_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refuse(folder, "cannot be read", device="cpu")


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path, "config.json")


@pytest.mark.parametrize("name", ["no-such-folder", "./no/such", "a/b/c"])
def test_what_is_neither_folder_nor_hub_id_is_refused(name: str) -> None:
    refuse(name, "neither a folder nor a hub id")


def test_a_hub_that_may_not_be_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    refuse("google/paligemma-3b-mix-224", "not in the cache, and the hub cannot be asked")


def test_unknown_precision_and_absent_device_are_refused() -> None:
    refuse(DEMO, "float32, bfloat16, float16", dtype="int3", device="cpu")
    if not torch.cuda.is_available():
        refuse(DEMO, "no CUDA device", device="cuda")


@pytest.mark.parametrize(
    ("device", "devices", "words"),
    [
        ("cuda:1", 0, "no CUDA device"),
        ("cuda:1", 1, "sees 1 CUDA devices"),
        ("gpu", 1, "cpu, cuda, cuda:1 or auto"),
        ("cuda:x", 1, "cpu, cuda, cuda:1 or auto"),
    ],
)
def test_devices_that_are_not_there_are_told(monkeypatch: pytest.MonkeyPatch, device: str, devices: int, words: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    with pytest.raises(CheckpointError, match=words):
        held_as(Source(str(DEMO), device=device))
    if devices:
        assert held_as(Source(str(DEMO), device="cuda:0"))[0] == "cuda:0"
        assert held_as(Source(str(DEMO), device="cpu")) == ("cpu", "float32")
