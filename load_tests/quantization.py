"""What smaller weights cost and save.

The medium model's steps with each kind against whole weights, taking turns; and how often the
embedded model then answers word for word the same.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from load_tests.report import spread, write
from load_tests.rivals import medium_model
from service.demo.family import CHECKPOINTS
from service.demo.questions import ANSWER_KINDS, answer, detect
from service.demo.scenes import SceneKind, draw_scene, make_scene
from service.engine.generation import Generation, Picture, Prompt
from service.model.images import ImageLimits, ImageReader
from service.model.loading import Source, open_checkpoint
from service.model.memory_plan import Shape, plan
from service.model.paligemma import PaliGemma, ServingOptions
from service.model.runner import PaliGemmaRunner

KINDS = (("float32", "int8"), ("float32", "int8-dynamic"), ("bfloat16", "int8"), ("bfloat16", "int8-dynamic"))
"""dtype and kind: all that a CPU has."""
ROWS, STEPS, ROUNDS, ANSWERS = 4, 10, 5, 100


def opened(folder: Path, dtype: str, kind: str | None, slots: int = ROWS) -> tuple[PaliGemma, PaliGemmaRunner]:
    """A model, ready."""
    checkpoint = open_checkpoint(Source(str(folder), dtype=dtype, device="cpu", quantization=kind))
    model = PaliGemma(checkpoint, ServingOptions(slots, 64, 128), ImageReader(ImageLimits()))
    return model, model.make_runner(torch.get_num_threads)


def encoded(model: PaliGemma, runner: PaliGemmaRunner) -> list[Generation]:
    """``ROWS`` prompts about pictures of noise."""
    noise = np.random.default_rng(1)
    tokens = model.tokens("caption en", False)
    pixels = [noise.integers(0, 256, (model.resolution, model.resolution, 3), dtype=np.uint8) for _ in range(ROWS)]
    asked = [Generation(Prompt((Picture(each, (64, 64)),), tokens), 100) for each in pixels]
    for each in asked:
        each.prompt.pictures[0].features = runner.encode(each.prompt.pictures)[0]
    return asked


def steps(runner: PaliGemmaRunner, asked: list[Generation]) -> tuple[float, float]:
    """Seconds of a prefill of ``ROWS`` prompts, and of a decode step of them."""
    prefill = _seconds(lambda: runner.prefill(asked, 0))
    decode = _seconds(lambda: [runner.decode(range(ROWS)) for _ in range(STEPS)]) / STEPS
    return prefill, decode


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def answers(runner: PaliGemmaRunner, model: PaliGemma) -> list[tuple[int, ...]]:
    """The embedded model's, to questions about drawn scenes."""
    rng, given = np.random.default_rng(8), []
    for number in range(ANSWERS):
        scene = make_scene(rng, SceneKind(sign_share=0.3))
        question = answer(scene, rng, ANSWER_KINDS[number % len(ANSWER_KINDS)])
        names = [thing.name for thing in scene.things] or ["sign"]
        prefix = question.prefix if question and number % 2 else detect(scene, names).prefix
        file = BytesIO()
        draw_scene(scene).save(file, "PNG")
        picture = model.picture(file.getvalue())
        picture.features = runner.encode([picture])[0]
        sampled = runner.prefill([Generation(Prompt((picture,), model.tokens(prefix, False)), 40)], 0)
        written = [*sampled.tokens]
        while written[-1] not in runner.end_tokens and len(written) < 40:
            written += runner.decode(range(1)).tokens
        given.append(tuple(written))
    return given


def main() -> None:
    """Measure and write the results."""
    rows: list[tuple[str, str]] = []
    figures: dict[str, Any] = {}
    embedded = CHECKPOINTS / "shapes-224"
    with tempfile.TemporaryDirectory() as scratch:
        medium_model.main(Path(scratch))
        for dtype, kind in KINDS:
            model, whole = opened(Path(scratch), dtype, None)
            _, smaller = opened(Path(scratch), dtype, kind)
            # The tower stays whole: both see the same.
            asked, pairs = encoded(model, whole), []
            for turn in range(ROUNDS + 1):
                first, second, third = (steps(runner, asked) for runner in (whole, smaller, whole))
                if turn:
                    pairs.append([2 * one / (before + after) for one, before, after in zip(second, first, third, strict=True)])
            prefill, decode = ([pair[index] for pair in pairs] for index in (0, 1))
            name = f"{kind}, {dtype}"
            config = open_checkpoint(Source(scratch, dtype=dtype, device="cpu")).config
            sizes = [plan(config, Shape("cpu", dtype, 1, 8, 8, 8, 0, 1, quantization=each)).weights for each in (kind, None)]
            known, near = (answers(runner, made) for made, runner in (opened(embedded, dtype, each, 1) for each in (None, kind)))
            same = sum(one == other for one, other in zip(known, near, strict=True)) / ANSWERS
            rows += [
                (f"{name}: time of a prefill, to that with whole weights", spread(prefill)),
                (f"{name}: time of a decode step, to that with whole weights", spread(decode)),
                (f"{name}: bytes of weights, to those of whole ones (planned)", f"{sizes[0] / sizes[1]:.2f}"),
                (f"{name}: answers of the embedded model that are the same, word for word", f"{same:.0%}"),
            ]
            figures[name] = {"prefill": prefill, "decode": decode, "bytes": sizes[0] / sizes[1], "same answers": same}
            print("\n".join(": ".join(row) for row in rows[-4:]), flush=True)
    medians = {f"median decode, {name}": statistics.median(each["decode"]) for name, each in figures.items()}
    write("quantization", "Smaller weights", "make bench-quantization", rows, {**medians, **figures})


if __name__ == "__main__":
    main()
