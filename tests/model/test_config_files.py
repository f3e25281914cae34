"""What a checkpoint says of itself: nothing that runs code, and nothing but a PaliGemma."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import service.demo
from service.model.config_files import CONFIG_FILES, ConfigError, check_config_files
from service.model.loading import CheckpointError, Source, load_model, open_checkpoint

DEMO = Path(service.demo.__file__).parent
AUTO_CLASSES = "AutoConfig AutoModel AutoModelForImageTextToText AutoProcessor AutoTokenizer AutoImageProcessor".split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the embedded checkpoint, to be spoilt."""
    return Path(shutil.copytree(DEMO / "checkpoints" / "shapes-224", tmp_path / "checkpoint"))


def change(path: Path, **values: Any) -> None:
    told = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(told | values))


def refuse(folder: Path, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        load_model(open_checkpoint(Source(str(folder), device="cpu")).weights)


@pytest.mark.parametrize("name", CONFIG_FILES)
@pytest.mark.parametrize("deep", [False, True])
def test_threat_62_code_that_a_file_asks_for_is_refused_and_never_runs(folder: Path, tmp_path: Path, name: str, deep: bool) -> None:
    marker = tmp_path / "marker"
    (folder / "evil.py").write_text(f"import pathlib\npathlib.Path({str(marker)!r}).mkdir()\nclass Model: ...\n")
    code = {"auto_map": dict.fromkeys(AUTO_CLASSES, "evil.Model")}
    change(folder / name, **({"inner": [{"deeper": code}]} if deep else code))
    refuse(folder, rf"{name} asks for code of its own \(auto_map\), which is never run")
    assert not marker.exists()


def test_threat_62_code_that_nothing_names_is_not_looked_at(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for name in ("modeling_paligemma.py", "processing_paligemma.py", "__init__.py", "custom_generate.py"):
        (folder / name).write_text(f"import pathlib\npathlib.Path({str(marker)!r}).mkdir()\n")
    load_model(open_checkpoint(Source(str(folder), device="cpu")).weights)
    assert not marker.exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
@pytest.mark.parametrize("value", ["kernels-community/flash-attn", {"text_config": "somebody/kernel"}])
def test_threat_62_a_kernel_of_the_hub_is_refused(folder: Path, key: str, value: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(folder / "config.json", text_config=config["text_config"] | {key: value})
    refuse(folder, f"asks for code of its own .{key}.")


@pytest.mark.parametrize(
    "values",
    [
        {"model_type": "llava"},
        {"model_type": None},
        {"model_type": ["paligemma"]},
        {"text_config": {"model_type": "llama"}},
        {"text_config": {"model_type": ["gemma"]}},
        {"vision_config": {"model_type": "clip_vision_model"}},
        {"text_config": 7},
        {"text_config": {"num_hidden_layers": 10**9}},
        {"text_config": {"num_hidden_layers": True}},
        {"vision_config": {"num_hidden_layers": -1}},
        {"quantization_config": {"quant_method": "torchao"}},
    ],
)
def test_threat_62_what_is_no_plain_paligemma_is_refused(folder: Path, values: dict[str, Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    merged = {
        key: config[key] | each if isinstance(each, dict) and isinstance(config.get(key), dict) else each for key, each in values.items()
    }
    change(folder / "config.json", **merged)
    refuse(folder, "config.json ")


def test_threat_62_a_checkpoint_is_no_adapter(folder: Path) -> None:
    change(folder / "adapter_config.json", peft_type="LORA", base_model_name_or_path="somebody/else")
    refuse(folder, "give an adapter's folder as an adapter")


@pytest.mark.parametrize("text", ["", "[]", "7", "{", "[" * 100_000, '"auto_map"', "\ud800".encode("utf-8", "surrogatepass")])
@pytest.mark.parametrize("name", ["config.json", "processor_config.json"])
def test_a_file_that_is_no_object_is_refused(folder: Path, name: str, text: str | bytes) -> None:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=name):
        check_config_files(folder)


def test_threat_39_a_template_of_the_checkpoint_is_never_rendered(folder: Path) -> None:
    """Jinja could be made to loop for ever; prefixes are written by the tasks alone."""
    bomb = "{% for a in range(10**9) %}{% for b in range(10**9) %}x{% endfor %}{% endfor %}{{ ''.__class__.__mro__ }}"
    change(folder / "tokenizer_config.json", chat_template=bomb)
    (folder / "chat_template.jinja").write_text(bomb)
    change(folder / "chat_template.json", chat_template=bomb)
    checkpoint = open_checkpoint(Source(str(folder), device="cpu"))
    assert checkpoint.processor.tokenizer.encode("caption en", add_special_tokens=False)
