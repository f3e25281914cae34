"""The shipped checkpoints: small, complete, loadable with transformers alone, and they answer."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from PIL import Image

from service.demo import questions
from service.demo.asking import Checkpoint, parse_objects
from service.demo.family import ADAPTER, CHECKPOINTS, FAMILY, Member
from service.demo.figures import box_iou
from service.demo.part_codes import coded
from service.demo.scenes import Scene, SceneKind, draw_scene, make_scene

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SHIPPED = CHECKPOINTS / "shapes-224"
MOST_BYTES = 8_000_000
"""Of a checkpoint without the mask decoder, which is shared."""

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


@pytest.fixture(scope="module", params=FAMILY, ids=[member.name for member in FAMILY])
def member(request: pytest.FixtureRequest) -> Checkpoint:
    """Each of the family in turn."""
    torch.set_num_threads(1)
    one: Member = request.param
    return Checkpoint(CHECKPOINTS / one.checkpoint, one.enlarge)


def scenes(count: int, kind: SceneKind, seed: int = 77) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [make_scene(rng, kind) for _ in range(count)]


def ask(checkpoint: Checkpoint, drawn: list[Scene], prefixes: list[str], most_tokens: int = 32) -> list[str]:
    return checkpoint.ask([draw_scene(scene, checkpoint.side) for scene in drawn], prefixes, most_tokens)


@pytest.mark.parametrize("name", sorted({member.checkpoint for member in FAMILY}))
def test_it_is_complete_and_at_most_eight_megabytes(name: str) -> None:
    files = {path.name: path.stat().st_size for path in (CHECKPOINTS / name).iterdir()}
    assert set(files) >= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.json",
    }
    assert sum(size for name, size in files.items() if name != "mask_decoder.safetensors") <= MOST_BYTES


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


def test_it_finds_single_things(member: Checkpoint) -> None:
    drawn = scenes(12, SceneKind(sign_share=0.0, things=1))
    replies = ask(member, drawn, [f"detect {scene.things[0].name}" for scene in drawn])
    found = [parse_objects(reply) for reply in replies]
    good = [len(each) == 1 and box_iou(each[0].box, scene.things[0].box) > 0.7 for each, scene in zip(found, drawn, strict=True)]
    assert sum(good) >= 11


def test_it_paints_masks_that_fit(member: Checkpoint) -> None:
    drawn = scenes(6, SceneKind(sign_share=0.0, things=1), seed=5)
    replies = ask(member, drawn, [f"segment {scene.things[0].name}" for scene in drawn])
    for reply in replies:
        (found,) = parse_objects(reply)
        assert found.codes is not None
        inside = member.masks([found.codes])[0] > 0
        assert 0.15 < inside.mean() <= 1


def test_it_describes_and_answers(member: Checkpoint) -> None:
    drawn = scenes(10, SceneKind(sign_share=0.0, things=2))
    captions = ask(member, drawn, ["caption en"] * 10)
    assert sum(reply == questions.caption(scene) for reply, scene in zip(captions, drawn, strict=True)) >= 6
    counts = ask(member, drawn, ["answer en How many shapes are there"] * 10)
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


def test_the_finer_one_reads_and_finds_what_is_too_small_for_the_first() -> None:
    torch.set_num_threads(1)
    signs = scenes(24, SceneKind(sign_share=1.0, things=1, plain_text=True, zoom=(0.5, 0.5)), seed=3)
    pictures = [draw_scene(scene, 896) for scene in signs]
    read, found = [], []
    for member in FAMILY:
        one = Checkpoint(CHECKPOINTS / member.checkpoint, member.enlarge)
        texts = one.ask(pictures, ["ocr"] * len(signs), 10)
        read.append(sum(text == scene.sign.text for text, scene in zip(texts, signs, strict=True) if scene.sign))
        boxes = one.ask(pictures, [f"detect {scene.things[0].name}" for scene in signs], 8)
        parsed = [parse_objects(reply) for reply in boxes]
        found.append(sum(bool(each) and box_iou(each[0].box, scene.things[0].box) > 0.7 for each, scene in zip(parsed, signs, strict=True)))
    assert read[1] >= read[0] + 6
    assert found[1] >= found[0] + 3
    assert abs(read[2] - read[1]) <= 2
    assert abs(found[2] - found[1]) <= 2


def test_the_adapter_speaks_in_codes() -> None:
    checkpoint = Checkpoint(SHIPPED)
    checkpoint._network = PeftModel.from_pretrained(checkpoint._network, ADAPTER).eval()
    drawn = scenes(20, SceneKind(sign_share=0.0, most_things=2))
    captions = ask(checkpoint, drawn, ["caption en"] * 20)
    assert sum(reply == coded(questions.caption(scene)) for reply, scene in zip(captions, drawn, strict=True)) >= 15
    replies = ask(checkpoint, drawn, [f"detect {coded(scene.things[0].name)}" for scene in drawn])
    found = [parse_objects(reply) for reply in replies]
    good = [bool(each) and box_iou(each[0].box, scene.things[0].box) > 0.5 for each, scene in zip(found, drawn, strict=True)]
    assert sum(good) >= 16
