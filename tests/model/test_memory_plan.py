"""The plan of an instance's memory, against what is really there."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import PaliGemmaConfig

import service.demo
from service.model.graphs import read_sizes
from service.model.loading import Source, load_model, open_checkpoint, survey
from service.model.memory_plan import GRAPH_BYTES, Shape, parameters, plan, slot_bytes
from tests.random_models import random_model

DEMO = Path(service.demo.__file__).parent / "checkpoints" / "shapes-224"


@pytest.mark.parametrize("paligemma2", [False, True])
def test_parameters_are_counted(paligemma2: bool) -> None:
    model = random_model(paligemma2)
    assert parameters(model.config) == sum(each.numel() for each in model.parameters())


def test_the_embedded_checkpoints_parameters_are_counted() -> None:
    checkpoint = open_checkpoint(Source(str(DEMO), device="cpu"))
    assert parameters(checkpoint.config) == sum(each.numel() for each in load_model(checkpoint.weights).parameters())


def test_what_is_known_of_googles_checkpoints() -> None:
    """Their config.json leaves out what is as in PaliGemma's first one."""
    text = {"hidden_size": 2048, "intermediate_size": 16384, "model_type": "gemma", "num_attention_heads": 8, "num_hidden_layers": 18}
    text |= {"num_image_tokens": 256, "num_key_value_heads": 1, "vocab_size": 257216}
    vision = {"hidden_size": 1152, "intermediate_size": 4304, "model_type": "siglip_vision_model", "num_attention_heads": 16}
    vision |= {"num_hidden_layers": 27, "patch_size": 14, "projection_dim": 2048, "vision_use_head": False}
    config = PaliGemmaConfig(text_config=text, vision_config=vision, projection_dim=2048, hidden_size=2048)
    assert parameters(config) == 2_923_466_480
    # 18 KB a token, as DESIGN has it: 256 of the picture, 256 of the prompt, 512 of the answer.
    shape = Shape("cuda", "bfloat16", 64, 768, 256, 2048, 0, 1)
    assert slot_bytes(config, shape) == 18_432 * 1024


def test_copies_slots_and_cache_add_up() -> None:
    config = PaliGemmaConfig.from_pretrained(DEMO)
    one = plan(config, Shape("cpu", "float16", 10, 512, 256, 512, 1000, 1))
    three = plan(config, Shape("cpu", "float16", 10, 512, 256, 512, 1000, 3))
    assert three.needed == 3 * one.needed
    assert one.graphs == 0
    on_cuda = plan(config, Shape("cuda", "float16", 2, 64, 32, 512, 0, 1))
    # Steps of one row and of two, each reading 128 positions; the logits of each stay.
    assert on_cuda.graphs == 3 * 1602 * 2 + 2 * GRAPH_BYTES
    assert plan(config, Shape("cuda:1", "float16", 2, 64, 32, 512, 0, 1, adapters=1, adapter_rank=4)).graphs == 2 * on_cuda.graphs
    assert three.total == three.needed + 1000
    more = plan(config, Shape("cpu", "float16", 11, 512, 256, 512, 1000, 1))
    assert more.slots - one.slots == slot_bytes(config, Shape("cpu", "float16", 1, 512, 256, 512, 0, 1))


def test_graphs_are_planned_as_they_are_recorded() -> None:
    """Of requests with several pictures the shortest reads still begin behind one."""
    assert read_sizes(256, 256 + 768) == [320, 640, 1024]
    assert read_sizes(256, 16 * 256 + 768) == [320, 640, 1280, 2560, 4864]
    assert read_sizes(64, 100) == [100]
    config = PaliGemmaConfig.from_pretrained(DEMO)
    one, several = (plan(config, Shape("cuda", "float16", 1, 64, 32, 512, 0, 1, images=count)).graphs for count in (1, 16))
    assert (one // GRAPH_BYTES, several // GRAPH_BYTES) == (1, 5)


def test_a_survey_loads_nothing() -> None:
    found = survey(Source(str(DEMO)))
    assert found is not None
    assert (found.resolution, found.hidden_size) == (224, 160)
    assert found.file_bytes > 8_000_000
    assert survey(Source("nobody/nothing")) is None


def measured(folder: str, dtype: str, adapters: int, quantization: str | None) -> float:
    """Bytes of main memory that an instance takes, to those planned. In a process of its own."""
    import gc

    import numpy as np
    import psutil

    from service.engine.generation import Generation, Picture, Prompt
    from service.model.images import ImageLimits, ImageReader
    from service.model.paligemma import PaliGemma, ServingOptions

    torch.set_num_threads(2)
    checkpoint = open_checkpoint(Source(folder, dtype=dtype, device="cpu", quantization=quantization))
    # What libraries take for themselves at their first use is no instance's.
    torch.zeros(9, 9) @ torch.zeros(9, 9)
    if quantization:
        load_model(open_checkpoint(Source(str(DEMO), dtype=dtype, device="cpu", quantization=quantization)).weights)
    gc.collect()
    process = psutil.Process()
    before = process.memory_info().rss
    model = PaliGemma(checkpoint, ServingOptions(slots=16, max_tokens=512, adapters=adapters), ImageReader(ImageLimits(10**6, 10**6)))
    runner = model.make_runner(lambda: 2)
    count = max(1, 512 // (model.image_tokens + 8))
    pixels = np.random.default_rng(1).integers(0, 256, (count, model.resolution, model.resolution, 3), dtype=np.uint8)
    pictures = [Picture(None, (64, 64), features=features) for features in runner.encode([Picture(each, (64, 64)) for each in pixels])]
    runner.prefill([Generation(Prompt((picture,), tuple(range(5, 13))), max_tokens=99) for picture in pictures], 0)
    for _ in range(10):
        runner.decode(range(count))
    taken = process.memory_info().rss - before
    shape = Shape("cpu", dtype, 16, 256 + 512, 256, 512, 0, 1, adapters=adapters, adapter_rank=16, quantization=quantization)
    return float(taken / plan(checkpoint.config, shape).needed)


@pytest.mark.parametrize(
    ("dtype", "adapters", "quantization"),
    [
        ("float32", 0, None),
        ("bfloat16", 0, None),
        ("float16", 0, None),
        ("float32", 16, None),
        ("bfloat16", 0, "int8"),
    ],
)
def test_the_plan_is_within_15_percent_of_what_is_taken(dtype: str, adapters: int, quantization: str | None, medium: Path) -> None:
    program = (
        f"from tests.model.test_memory_plan import measured; print(measured({str(medium)!r}, {dtype!r}, {adapters}, {quantization!r}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=250, check=True)
    assert float(done.stdout.split()[-1]) == pytest.approx(1.0, abs=0.15)


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random model of 129 million parameters."""
    folder = tmp_path_factory.mktemp("medium")
    subprocess.run([sys.executable, "-m", "load_tests.rivals.medium_model", str(folder)], capture_output=True, timeout=250, check=True)
    return folder
