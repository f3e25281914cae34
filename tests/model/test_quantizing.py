"""Smaller weights: how far off they are, what they take, and what is refused."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

import service.demo
from service.engine.generation import Generation, Picture, Prompt
from service.model.loading import Source, held_as, load_model, open_checkpoint, survey
from service.model.memory_plan import Shape, plan
from service.model.quantizing import QuantizationError, check_quantization, quantize
from service.model.runner import PaliGemmaRunner, RunnerOptions
from tests.random_models import NORMALISATION, SIDE, random_generations, random_model

DEMO = Path(service.demo.__file__).parent / "checkpoints" / "shapes-224"
LOGIT_ERROR = {"int8": 0.06, "int8-dynamic": 0.08}
"""Of the logits' scale, on random models, whose sharp attention magnifies every rounding."""


def logits_of(runner: PaliGemmaRunner, generations: list[Generation]) -> torch.Tensor:
    """[prompts, vocabulary] behind the prompts."""
    kept: list[torch.Tensor] = []
    whole = runner._logits
    runner._logits = lambda hidden: kept.append(whole(hidden)) or kept[-1]  # type: ignore[func-returns-value, method-assign]
    for each in generations:
        each.prompt.pictures[0].features = runner.encode(each.prompt.pictures)[0]
    runner.prefill(generations, 0)
    return kept[0].float()


@pytest.mark.parametrize("kind", ["int8", "int8-dynamic"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("paligemma2", [False, True])
def test_logits_are_near_those_of_whole_weights(kind: str, dtype: torch.dtype, paligemma2: bool) -> None:
    options = RunnerOptions(slots=12, max_text_tokens=60)
    plain = random_model(paligemma2).to(dtype)
    smaller = copy.deepcopy(plain)
    quantize(smaller, kind)
    changed = {type(layer.self_attn.q_proj.weight).__name__ for layer in smaller.model.language_model.layers}
    assert changed == {"Int8Tensor"}
    whole, near = (logits_of(PaliGemmaRunner(model, NORMALISATION, options), random_generations(12, seed=2)) for model in (plain, smaller))
    error = (near - whole).abs().mean() / whole.abs().max()
    assert 0 < error < LOGIT_ERROR[kind]


def test_a_quantized_instance_loads_decodes_and_is_half_as_large() -> None:
    source = Source(str(DEMO), dtype="bfloat16", device="cpu", quantization="int8")
    runner = PaliGemmaRunner(load_model(open_checkpoint(source).weights), NORMALISATION, RunnerOptions(2, 40))
    pixels = np.zeros((224, 224, 3), np.uint8)
    generation = Generation(Prompt((Picture(pixels, (SIDE, SIDE)),), (2, 5, 6, 7)), 8)
    generation.prompt.pictures[0].features = runner.encode(generation.prompt.pictures)[0]
    runner.prefill([generation], 0)
    assert len(runner.decode(range(1)).tokens) == 1
    seen = survey(source)
    assert seen is not None
    whole, smaller = (
        plan(seen.config, Shape("cpu", "bfloat16", 1, 64, 32, 64, 0, 1, quantization=kind)).weights for kind in (None, "int8")
    )
    linear = 4 * 160 * (4 * 160 + 3 * 320)
    assert whole - smaller == pytest.approx(linear, rel=0.02)


@pytest.mark.parametrize(
    ("kind", "dtype", "device", "remedy"),
    [
        ("int4", "float32", "cpu", "int8 and int8-dynamic work"),
        ("int4", "bfloat16", "cpu", "CUDA"),
        ("int4", "float16", "cuda", "bfloat16"),
        ("int8", "float16", "cpu", "float32 or bfloat16"),
    ],
)
def test_what_torchao_has_no_products_for_is_refused_before_loading(kind: str, dtype: str, device: str, remedy: str) -> None:
    with pytest.raises(QuantizationError, match=remedy):
        check_quantization(kind, dtype, device)
    if device == "cpu":
        with pytest.raises(QuantizationError):
            held_as(Source(str(DEMO), dtype=dtype, device="cpu", quantization=kind))
