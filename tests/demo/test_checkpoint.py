"""The shipped checkpoint: small, complete, loadable with transformers alone, and it answers."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from service.demo import questions
from service.demo.asking import Checkpoint, parse_objects
from service.demo.evaluate import SHIPPED
from service.demo.figures import box_iou
from service.demo.scenes import Scene, SceneKind, draw_scene, make_scene

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
MOST_BYTES = 10_000_000

ALONE = """
import sys
from PIL import Image
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration
model = PaliGemmaForConditionalGeneration.from_pretrained(sys.argv[1])
processor = AutoProcessor.from_pretrained(sys.argv[1])
given = processor(images=[Image.open(sys.argv[2])], text=["<image>answer en how many shapes are there?"], return_tensors="pt")
written = model.float().generate(**{**given, "pixel_values": given["pixel_values"].float()})
print(type(processor).__name__, type(processor.image_processor).__name__, processor.image_processor.image_seq_length)
print(processor.decode(written[0, given["input_ids"].shape[1]:], skip_special_tokens=True))
assert not any(name.split(".")[0] == "service" for name in sys.modules)
"""


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.set_num_threads(1)
    return Checkpoint(SHIPPED)


def scenes(count: int, kind: SceneKind, seed: int = 77) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [make_scene(rng, kind) for _ in range(count)]


def ask(checkpoint: Checkpoint, drawn: list[Scene], prefixes: list[str], most_tokens: int = 32) -> list[str]:
    return checkpoint.ask([draw_scene(scene) for scene in drawn], prefixes, most_tokens)


def test_it_is_complete_and_at_most_ten_megabytes() -> None:
    files = {path.name: path.stat().st_size for path in SHIPPED.iterdir()}
    assert set(files) >= {
        "config.json", "generation_config.json", "mask_decoder.safetensors", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "training.json",
    }  # fmt: skip
    assert sum(files.values()) <= MOST_BYTES


def test_its_files_say_how_it_ends_and_pads() -> None:
    generation = json.loads((SHIPPED / "generation_config.json").read_text())
    assert [generation[name] for name in ("pad_token_id", "eos_token_id", "bos_token_id")] == [0, 1, 2]
    assert json.loads((SHIPPED / "tokenizer_config.json").read_text())["padding_side"] == "left"
    assert json.loads((SHIPPED / "config.json").read_text())["dtype"] == "float16"


def test_transformers_alone_loads_it_and_it_answers(tmp_path: Path) -> None:
    (drawn,) = scenes(1, SceneKind(sign_share=0.0, things=2))
    draw_scene(drawn).save(tmp_path / "scene.png")
    command = [sys.executable, "-c", ALONE, str(SHIPPED), str(tmp_path / "scene.png")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=120).stdout
    assert "PaliGemmaProcessor SiglipImageProcessorPil 64" in printed
    assert printed.split()[-1] == str(len(drawn.things))


def test_it_finds_single_things(checkpoint: Checkpoint) -> None:
    drawn = scenes(12, SceneKind(sign_share=0.0, things=1))
    replies = ask(checkpoint, drawn, [f"detect {scene.things[0].name}" for scene in drawn])
    found = [parse_objects(reply) for reply in replies]
    good = [len(each) == 1 and box_iou(each[0].box, scene.things[0].box) > 0.7 for each, scene in zip(found, drawn, strict=True)]
    assert sum(good) >= 11


def test_it_paints_masks_that_fit(checkpoint: Checkpoint) -> None:
    drawn = scenes(6, SceneKind(sign_share=0.0, things=1), seed=5)
    replies = ask(checkpoint, drawn, [f"segment {scene.things[0].name}" for scene in drawn])
    for reply in replies:
        (found,) = parse_objects(reply)
        assert found.codes is not None
        inside = checkpoint.masks([found.codes])[0] > 0
        assert 0.15 < inside.mean() <= 1


def test_it_describes_and_answers(checkpoint: Checkpoint) -> None:
    drawn = scenes(10, SceneKind(sign_share=0.0, things=2))
    captions = ask(checkpoint, drawn, ["caption en"] * 10)
    assert sum(reply == questions.caption(scene) for reply, scene in zip(captions, drawn, strict=True)) >= 6
    counts = ask(checkpoint, drawn, ["answer en How many shapes are there"] * 10)
    assert sum(reply == str(len(scene.things)) for reply, scene in zip(counts, drawn, strict=True)) >= 8


def test_what_is_absent_gets_no_box(checkpoint: Checkpoint) -> None:
    drawn = scenes(10, SceneKind(sign_share=0.0, things=2))
    rng = np.random.default_rng(1)
    absent = [" ".join(reversed(questions.absent_thing(scene, rng))) for scene in drawn]
    assert sum(reply == "" for reply in ask(checkpoint, drawn, [f"detect {name}" for name in absent])) >= 8


def test_a_batch_answers_as_its_parts_do(checkpoint: Checkpoint) -> None:
    drawn = scenes(4, SceneKind(sign_share=0.0, things=2))
    pictures: list[Image.Image] = [draw_scene(scene) for scene in drawn]
    prefixes = ["caption en", "detect " + drawn[1].things[0].name, "answer en how many shapes are there?", "ocr"]
    together = checkpoint.ask(pictures, prefixes, 24)
    apart = [checkpoint.ask([picture], [prefix], 24)[0] for picture, prefix in zip(pictures, prefixes, strict=True)]
    assert together == apart
