"""What adapters cost: the same requests with eight adapters in a batch and with none, taking turns, through scheduler and runner.

Every request has a picture of its own. Each of the eight adapters has rank 8 and changes all of the decoder's linear layers. Two models:
the embedded one, and the medium one of 129 million parameters.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import PaliGemmaForConditionalGeneration

from load_tests.report import spread, write
from load_tests.rivals import medium_model
from service.demo.family import ADAPTER, CHECKPOINTS
from service.engine.generation import Generation, Picture, Prompt
from service.engine.request import Request
from service.engine.scheduler import Prefill, Scheduler
from service.model.images import ImageLimits, ImageReader
from service.model.loading import Source, open_checkpoint
from service.model.paligemma import PaliGemma, ServingOptions
from service.model.runner import PaliGemmaRunner

ADAPTERS, RANK, SLOTS, PREFILL_TOKENS, BUDGET = 8, 8, 16, 512, 24
ROUNDS = {"embedded": 11, "medium": 5}
REQUESTS = {"embedded": 64, "medium": 16}


def rate(runner: PaliGemmaRunner, generations: Sequence[Generation]) -> float:
    """Requests a second, all at once."""
    scheduler = Scheduler(SLOTS, runner.image_tokens, frozenset(), PREFILL_TOKENS)
    for each in generations:
        scheduler.add(Request(each, 0.0))
    began = time.perf_counter()
    while scheduler.load:
        moves, _ = scheduler.retire(0.0)
        for source, target in moves:
            runner.move(source, target)
        batch = scheduler.next_batch()
        if batch is None:
            continue
        if isinstance(batch, Prefill):
            joining = [each.generation for each in batch.requests]
            pictures = [picture for each in joining for picture in each.prompt.pictures]
            for picture, features in zip(pictures, runner.encode(pictures), strict=True):
                picture.features = features
            sampled = runner.prefill(joining, batch.first_slot)
        else:
            sampled = runner.decode(batch.slots)
        # An end would make the two kinds of answers differ in length: their budget ends all of them.
        scheduler.record(batch, sampled, 0.0)
    return len(generations) / (time.perf_counter() - began)


def generations(model: PaliGemma, count: int, adapted: bool) -> list[Generation]:
    """Distinct pictures of noise, one prompt; the adapters in turn."""
    noise = np.random.default_rng(3)
    tokens = model.tokens("caption en", False)
    side = model.resolution
    pictures = [Picture(noise.integers(0, 256, (side, side, 3), dtype=np.uint8), (side, side)) for _ in range(count)]
    return [
        Generation(Prompt((picture,), tokens), BUDGET, adapter=1 + index % ADAPTERS if adapted else 0)
        for index, picture in enumerate(pictures)
    ]


def random_adapter(checkpoint: Path, folder: Path) -> Path:
    """Small random numbers, as peft writes them."""
    base = PaliGemmaForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
    linear = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    get_peft_model(base, LoraConfig(r=RANK, target_modules=linear, init_lora_weights=False)).save_pretrained(str(folder))
    return folder


def measure(name: str, checkpoint: Path, adapter: Path) -> list[float]:
    """Throughput with adapters to that without, for each round."""
    options = ServingOptions(SLOTS, 16, BUDGET, adapters=ADAPTERS, adapter_rank=RANK)
    model = PaliGemma(open_checkpoint(Source(str(checkpoint), dtype="float32", device="cpu")), options, ImageReader(ImageLimits()))
    runner = model.make_runner(torch.get_num_threads)
    for place in range(1, ADAPTERS + 1):
        runner.adopt(place, runner.read_adapter(str(adapter)))
    ratios = []
    for turn in range(ROUNDS[name] + 1):
        first, adapted, last = (rate(runner, generations(model, REQUESTS[name], each)) for each in (False, True, False))
        if turn:
            ratios.append(2 * adapted / (first + last))
            print(f"{name}: {first:.1f}, {adapted:.1f}, {last:.1f} requests/s", flush=True)
    return ratios


def main() -> None:
    """Measure and write the results."""
    rows, figures = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        medium = Path(scratch) / "medium"
        medium_model.main(medium)
        models = {"embedded": (CHECKPOINTS / "shapes-224", ADAPTER), "medium": (medium, random_adapter(medium, Path(scratch) / "adapter"))}
        for name, (checkpoint, adapter) in models.items():
            ratios = measure(name, checkpoint, adapter)
            rows.append((f"requests/s with {ADAPTERS} adapters in a batch, to that with none: {name} model", spread(ratios)))
            figures[name] = ratios
    medians = {f"median, {name}": statistics.median(ratios) for name, ratios in figures.items()}
    write("adapters", "The cost of adapters", "make bench-adapters", rows, {**medians, **figures})


if __name__ == "__main__":
    main()
