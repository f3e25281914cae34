"""What constrained decoding costs a decode step: the embedded model, rows with and without a grammar, taking turns."""

import statistics
import time

import numpy as np
import torch

from load_tests.report import spread, write
from service.building import blank_picture
from service.engine.device import RunnerFacts
from service.engine.generation import Generation, Prompt
from service.model.images import ImageLimits, ImageReader
from service.model.loading import Source, open_checkpoint
from service.model.paligemma import PaliGemma, ServingOptions
from service.model.runner import PaliGemmaRunner
from service.planning import demo_settings
from service.tasks.grammars import segment_grammar

ROWS, STEPS, ROUNDS = (8, 32), 60, 15
NAMES = ["red circle", "green square", "purple star", "sign"]


def seconds(runner: PaliGemmaRunner, generations: list[Generation]) -> float:
    """One decode step, on average over an answer."""
    runner.prefill(generations, 0)
    began = time.perf_counter()
    for _ in range(STEPS):
        runner.decode(range(len(generations)))
    return (time.perf_counter() - began) / STEPS


def main() -> None:
    """Measure and write the results."""
    model = PaliGemma(
        open_checkpoint(Source(demo_settings()[0].source, device="cpu")), ServingOptions(32, 64, 128), ImageReader(ImageLimits())
    )
    runner = model.make_runner(torch.get_num_threads)
    facts = RunnerFacts(runner.slots, runner.image_tokens, runner.feature_bytes, runner.end_tokens, runner.vocabulary_size)
    grammar = segment_grammar(NAMES, model.lexicon(facts))
    picture = model.picture(blank_picture())
    picture.features = runner.encode([picture])[0]
    prompt = Prompt((picture,), model.tokens("segment " + " ; ".join(NAMES), False))
    rows, figures = [], {}
    for count in ROWS:
        free, bound = [Generation(prompt, 128)] * count, [Generation(prompt, 128, grammar=grammar)] * count
        ratios = []
        for _ in range(ROUNDS):
            first, strict, last = seconds(runner, free), seconds(runner, bound), seconds(runner, free)
            ratios.append(strict / float(np.mean([first, last])))
        rows.append((f"a decode step of {count} strict rows to one of {count} free rows", spread(ratios)))
        figures[f"{count} rows"] = ratios
    write("strict_cost", "The cost of strict", "make bench-strict", rows, {"median": statistics.median(figures["32 rows"]), **figures})


if __name__ == "__main__":
    main()
