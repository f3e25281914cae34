"""What parity does not show: other precisions, what is read when, and what a failed step leaves behind."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

import service.demo
from service.engine.generation import GREEDY, Generation, Prompt
from service.model import runner as runner_module
from service.model.images import ImageLimits, ImageReader
from service.model.loading import Source, open_checkpoint
from service.model.paligemma import PaliGemma, ServingOptions
from service.model.runner import PaliGemmaRunner, RunnerOptions
from service.model.sampling import Choosing, TokenMasks, choose
from tests.model.test_runner_parity import run
from tests.random_models import END_TOKENS, NORMALISATION, random_generations, random_model, reference

DEMO = Path(service.demo.__file__).parent / "checkpoints" / "shapes-224"
SAMPLE = Path(service.demo.__file__).parent / "samples" / "scene.png"
BF16_LOGIT_ERROR = 0.03
"""Of the logits' scale, on average over the embedded model's prompts and first steps."""
MORE_THAN_TRANSFORMERS = 1.25
"""Times the error of transformers' own bfloat16, on random models, whose sharp attention magnifies every rounding."""


def encoded(runner: PaliGemmaRunner, generations: Sequence[Generation]) -> list[Generation]:
    for each in generations:
        each.prompt.pictures[0].features = runner.encode(each.prompt.pictures)[0]
    return list(generations)


def watched(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Logits of all steps from now on. The same token is chosen whatever the precision, so that the next steps can be compared too."""
    seen: list[Tensor] = []

    def watch(logits: Tensor, rows: Sequence[Choosing], masks: TokenMasks) -> tuple[Tensor, Tensor]:
        seen.append(logits.float())
        return torch.full((len(rows),), 77), torch.full((len(rows),), 0.5)

    monkeypatch.setattr(runner_module, "choose", watch)
    return seen


def error_of(rough: Tensor, exact: Tensor) -> float:
    """The largest difference of each row [rows, vocabulary], as part of its largest logit: their mean."""
    return float(((rough - exact).abs().max(dim=-1).values / exact.abs().max(dim=-1).values).mean())


@pytest.mark.parametrize("paligemma2", [False, True])
def test_bfloat16_is_as_near_to_float32_as_transformers_is(paligemma2: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    generations = [replace(each, max_tokens=1) for each in random_generations(30, seed=9)]
    exact = torch.cat([reference(random_model(paligemma2), each, END_TOKENS).logits for each in generations])
    rough_model = random_model(paligemma2).to(torch.bfloat16)
    theirs = error_of(torch.cat([reference(rough_model, each, END_TOKENS).logits for each in generations]).float(), exact)
    seen = watched(monkeypatch)
    runner = PaliGemmaRunner(rough_model, NORMALISATION, RunnerOptions(slots=30, max_text_tokens=80))
    runner.prefill(encoded(runner, generations), 0)
    ours = error_of(seen[0], exact)
    print(f"parity bfloat16, random model: error {ours:.4f} of the logits' scale, transformers' {theirs:.4f}")
    assert ours < MORE_THAN_TRANSFORMERS * theirs


def test_bfloat16_of_the_embedded_model_stays_near_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watched(monkeypatch)
    logits = []
    for dtype in ("float32", "bfloat16"):
        seen.clear()
        model = PaliGemma(
            open_checkpoint(Source(str(DEMO), dtype=dtype, device="cpu")), ServingOptions(8, 64, 64), ImageReader(ImageLimits())
        )
        runner = model.make_runner(torch.get_num_threads)
        picture = model.picture(SAMPLE.read_bytes())
        prefixes = ("caption en", "ocr", "detect sign", "segment green square", "answer en how many shapes are there?")
        runner.prefill(encoded(runner, [Generation(Prompt((picture,), model.tokens(each, False)), 8) for each in prefixes]), 0)
        for _ in range(3):
            runner.decode(range(len(prefixes)))
        logits.append(torch.cat(seen))
    error = error_of(logits[1], logits[0])
    print(f"parity bfloat16, embedded model: error {error:.4f} of the logits' scale")
    assert error < BF16_LOGIT_ERROR


def test_a_step_asked_for_again_after_a_failure_gives_what_it_would_have_given(monkeypatch: pytest.MonkeyPatch) -> None:
    generations = [replace(each, max_tokens=12) for each in random_generations(6, seed=4)]
    wanted = [each.tokens for each in run(small_runner(), generations, seed=None)]
    runner, calls = small_runner(), 0

    def sometimes(logits: Tensor, rows: Sequence[Choosing], masks: TokenMasks) -> tuple[Tensor, Tensor]:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise MemoryError
        return choose(logits, rows, masks)

    monkeypatch.setattr(runner_module, "choose", sometimes)

    def patient(slots: range) -> object:
        try:
            return PaliGemmaRunner.decode(runner, slots)
        except MemoryError:
            # In halves, as the device loop does.
            middle = (slots.start + slots.stop) // 2
            if middle == slots.start:
                return patient(slots)
            first, second = patient(range(slots.start, middle)), patient(range(middle, slots.stop))
            return type(first)(first.tokens + second.tokens, first.probabilities + second.probabilities)  # type: ignore[attr-defined,call-arg]

    prefill = runner.prefill

    def patient_prefill(joining: Sequence[Generation], first_slot: int) -> object:
        try:
            return prefill(joining, first_slot)
        except MemoryError:
            return prefill(joining, first_slot)

    monkeypatch.setattr(runner, "decode", patient)
    monkeypatch.setattr(runner, "prefill", patient_prefill)
    assert [each.tokens for each in run(runner, generations, seed=None)] == wanted
    assert calls > 10


def small_runner(compiled: bool = False) -> PaliGemmaRunner:
    return PaliGemmaRunner(random_model(False), NORMALISATION, RunnerOptions(slots=3, max_text_tokens=80, compile=compiled))


def test_a_compiled_step_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced whole, and run without a compiler: what it gains is measured elsewhere."""
    generations = [replace(each, max_tokens=6) for each in random_generations(5, seed=6)]
    wanted = [each.tokens for each in run(small_runner(), generations, seed=None)]
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))
    assert [each.tokens for each in run(small_runner(compiled=True), generations, seed=None)] == wanted


def test_features_keep_nothing_but_themselves() -> None:
    runner = small_runner()
    features = runner.encode([each.prompt.pictures[0] for each in random_generations(4, seed=2)])
    for each in features:
        assert isinstance(each, Tensor)
        assert each.untyped_storage().nbytes() == runner.feature_bytes


def test_narrow_models_take_one_thread_and_wide_ones_their_share() -> None:
    asked: list[int] = []

    def share() -> int:
        asked.append(1)
        return 1

    runner = PaliGemmaRunner(random_model(False), NORMALISATION, RunnerOptions(slots=1, max_text_tokens=80), share)
    runner.prefill(encoded(runner, random_generations(1, seed=2)), 0)
    assert not asked


def test_choosing_starts_greedy() -> None:
    assert Choosing(GREEDY, None).allowed() is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("paligemma2", [False, True])
def test_decode_graphs_give_the_same_as_single_launches(paligemma2: bool) -> None:
    generations = random_generations(60, seed=8)
    answers = []
    for graphs in (True, False):
        model = random_model(paligemma2).to("cuda")
        runner = PaliGemmaRunner(model, NORMALISATION, RunnerOptions(slots=8, max_text_tokens=80, graphs=graphs))
        assert (runner._graphs is not None) == graphs
        answers.append([each.tokens for each in run(runner, [replace(each) for each in generations], seed=3)])
    assert sum(one == other for one, other in zip(*answers, strict=True)) >= 59
