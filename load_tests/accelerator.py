"""The engine on an accelerator against its limits and against ``generate()``: PaliGemma 1's full size with random weights, in bfloat16.

The limits are measured first, on the same device: what a large matrix product reaches, and what a large copy reads and writes. From
them follow the least times of vision and prefill (floating-point operations) and of a decode step (bytes of weights, head and keys).
``--tiny`` runs everything in small on a CPU, to see that it runs.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

from load_tests.report import spread, write
from service.engine.device_loop import DeviceLoop
from service.engine.engine import Engine, EngineLimits
from service.engine.generation import Generation, Picture, Prompt
from service.model.runner import PaliGemmaRunner, RunnerOptions
from service.model.vision import Normalisation
from service.observability.metrics import Metrics

PROMPT_TOKENS = 16
ANSWER_TOKENS = 10
REPEATS = 7


@dataclass(frozen=True, slots=True)
class Size:
    """What is measured: the model's shape, the device, and how much of it."""

    device: str
    dtype: torch.dtype
    text: dict[str, int]
    vision: dict[str, int]
    sides: tuple[int, ...]
    rows: tuple[int, ...]
    prefill_tokens: int
    requests: int


FULL = Size(
    "cuda", torch.bfloat16,
    {"hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 18, "num_attention_heads": 8, "head_dim": 256,
     "vocab_size": 257216},
    {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16},
    (224, 448), (1, 32, 128), 4096, 600,
)  # fmt: skip
TINY = Size(
    "cpu", torch.float32,
    {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 32, "vocab_size": 1000},
    {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
    (56,), (1, 4), 100, 12,
)  # fmt: skip


def build(size: Size, side: int) -> PaliGemmaForConditionalGeneration:
    """A model of the size with random weights, which never ends an answer."""
    torch.manual_seed(0)
    text: dict[str, Any] = size.text | {"model_type": "gemma", "num_key_value_heads": 1, "max_position_embeddings": 8192}
    vision = size.vision | {"model_type": "siglip_vision_model", "image_size": side, "patch_size": 14, "vision_use_head": False}
    config = PaliGemmaConfig(
        text_config=text, vision_config=vision | {"projection_dim": text["hidden_size"]}, image_token_index=text["vocab_size"] - 1,
        projection_dim=text["hidden_size"], hidden_size=text["hidden_size"], pad_token_id=0, bos_token_id=2, eos_token_id=1,
    )  # fmt: skip
    with torch.device(size.device):
        model = PaliGemmaForConditionalGeneration._from_config(config, dtype=size.dtype).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model.to(size.device)


def seconds(work: Callable[[], object], size: Size, repeats: int = REPEATS) -> list[float]:
    """How long ``work`` takes on the device, again and again."""
    times = []
    for turn in range(repeats + 2):
        began = time.perf_counter()
        work()
        if size.device == "cuda":
            torch.cuda.synchronize()
        if turn >= 2:
            times.append(time.perf_counter() - began)
    return times


def limits(size: Size) -> tuple[float, float]:
    """Floating-point operations and bytes a second that the device reaches."""
    side = 8192 if size.device == "cuda" else 512
    left = torch.randn(side, side, device=size.device, dtype=size.dtype)
    right = torch.randn(side, side, device=size.device, dtype=size.dtype)
    long = torch.empty(side * side * 16, device=size.device, dtype=size.dtype)
    other = torch.empty_like(long)
    operations = 2 * side**3 / min(seconds(lambda: torch.mm(left, right), size))
    return operations, 2 * long.nbytes / min(seconds(lambda: other.copy_(long), size))


def operations(size: Size, tokens: int) -> float:
    """Of vision and prefill for one request, both with full attention, the head for one token."""
    text, vision, images = size.text, size.vision, tokens - PROMPT_TOKENS
    width, heads = text["hidden_size"], text["num_attention_heads"] * text["head_dim"]
    layer = width * (2 * heads + 2 * text["head_dim"]) + 3 * width * text["intermediate_size"]
    prefill = text["num_hidden_layers"] * (2 * tokens * layer + 4 * tokens**2 * heads) + 2 * width * text["vocab_size"]
    side = vision["hidden_size"]
    block = 4 * side**2 + 2 * side * vision["intermediate_size"]
    encode = vision["num_hidden_layers"] * (2 * images * block + 4 * images**2 * side) + 2 * images * side * (14 * 14 * 3 + width)
    return float(prefill + encode)


def step_bytes(size: Size, rows: int, tokens: int) -> float:
    """Weights, head and keys that a decode step reads."""
    text, element = size.text, size.dtype.itemsize
    width, heads = text["hidden_size"], text["num_attention_heads"] * text["head_dim"]
    layer = width * (2 * heads + 2 * text["head_dim"]) + 3 * width * text["intermediate_size"]
    keys = 2 * text["num_hidden_layers"] * text["head_dim"] * tokens * rows
    return float(element * (text["num_hidden_layers"] * layer + width * text["vocab_size"] + keys))


def generations(size: Size, side: int, count: int) -> list[Generation]:
    """Distinct pictures of noise, prompts of one length, answers of ten tokens."""
    noise = np.random.default_rng(3)
    words = (2, *range(100, 100 + PROMPT_TOKENS - 2), 108)
    pictures = [Picture(noise.integers(0, 256, (side, side, 3), dtype=np.uint8), (side, side)) for _ in range(count)]
    return [Generation(Prompt((picture,), words), ANSWER_TOKENS) for picture in pictures]


def measure_steps(size: Size, side: int, runner: PaliGemmaRunner, reached: tuple[float, float]) -> list[tuple[str, str]]:
    """Vision and prefill as a part of what their operations would take at least, and decode steps as a multiple of their bytes' time."""
    tokens = runner.image_tokens + PROMPT_TOKENS
    count = max(1, min(size.prefill_tokens // tokens, runner.slots))
    wanted = generations(size, side, count)
    pictures = [each.prompt.pictures[0] for each in wanted]

    def whole() -> None:
        for each, features in zip(wanted, runner.encode(pictures), strict=True):
            each.prompt.pictures[0].features = features
        runner.prefill(wanted, 0)

    parts = [count * operations(size, tokens) / reached[0] / each for each in seconds(whole, size)]
    rows = [(f"{side} px, vision and prefill of {count}, part of the roofline", spread(parts))]
    for live in size.rows:
        many = [wanted[index % count] for index in range(live)]
        for start in range(0, live, count):
            runner.prefill(many[start : start + count], start)
        floor = step_bytes(size, live, tokens) / reached[1]
        # Each step is one token longer than the last, which is little beside the prompt.
        times = seconds(lambda live=live: runner.decode(range(live)), size)  # type: ignore[misc]
        rows.append((f"{side} px, decode step of {live} rows, × its weight-read floor", spread([each / floor for each in times])))
    return rows


async def through_engine(size: Size, runner: PaliGemmaRunner, wanted: Sequence[Generation]) -> list[float]:
    """Seconds for all requests at once through the engine, and the longest pause between two steps' reports."""
    device = DeviceLoop()
    engine = Engine("bench", device, EngineLimits(queue=len(wanted), prefill_tokens=2048), Metrics("bench"))
    engine.load(lambda threads: runner)
    device.start()
    pauses = [0.0]
    last: dict[int, float] = {}

    async def one(number: int, generation: Generation) -> None:
        def heard(token: int, probability: float) -> None:
            now = time.perf_counter()
            pauses.append(now - last.get(number, now))
            last[number] = now

        with engine.reserve(float("inf")) as place:
            await place.run(generation, heard)

    began = time.perf_counter()
    await asyncio.gather(*(one(number, each) for number, each in enumerate(wanted)))
    took = time.perf_counter() - began
    await asyncio.to_thread(device.stop)
    return [took, max(pauses)]


def generate(model: PaliGemmaForConditionalGeneration, size: Size, side: int, wanted: Sequence[Generation]) -> float:
    """Requests a second of ``generate()`` in batches of 16."""
    images = (side // 14) ** 2
    began = time.perf_counter()
    for start in range(0, len(wanted), 16):
        batch = wanted[start : start + 16]
        ids = torch.tensor([[model.config.image_token_id] * images + list(each.prompt.tokens) for each in batch], device=size.device)
        pixels = torch.from_numpy(np.stack([np.asarray(each.prompt.pictures[0].pixels) for each in batch])).to(size.device)
        model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), token_type_ids=torch.zeros_like(ids),
            pixel_values=(pixels.movedim(-1, 1) / 127.5 - 1).to(size.dtype), max_new_tokens=ANSWER_TOKENS, do_sample=False,
        )  # fmt: skip
    if size.device == "cuda":
        torch.cuda.synchronize()
    return len(wanted) / (time.perf_counter() - began)


@torch.inference_mode()
def measure(size: Size, compiled: bool) -> None:
    """Run everything and write the results."""
    reached = limits(size)
    rows = [("matrix product, TFLOP/s", f"{reached[0] / 1e12:.2f}"), ("copy, GB/s", f"{reached[1] / 1e9:.0f}")]
    figures: dict[str, object] = {"operations a second": reached[0], "bytes a second": reached[1], "compile": compiled}
    for side in size.sides:
        options = RunnerOptions(slots=max(size.rows), max_text_tokens=PROMPT_TOKENS + 4 * ANSWER_TOKENS, compile=compiled)
        began = time.perf_counter()
        runner = PaliGemmaRunner(build(size, side), Normalisation(1 / 255, (0.5,) * 3, (0.5,) * 3), options)
        rows.append((f"{side} px, making ready, s", f"{time.perf_counter() - began:.1f}"))
        rows += measure_steps(size, side, runner, reached)
        if side != size.sides[0]:
            continue
        model, ours, theirs, pauses = build(size, side), [], [], []
        for _ in range(3):
            wanted = generations(size, side, size.requests)
            took, pause = asyncio.run(through_engine(size, runner, wanted))
            ours.append(len(wanted) / took)
            pauses.append(1000 * pause)
            theirs.append(generate(model, size, side, generations(size, side, max(16, size.requests // 4))))
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        rows += [
            (f"{side} px, whole engine, {ANSWER_TOKENS} tokens, requests/s", spread(ours)),
            (f"{side} px, `generate()` in batches of 16, requests/s", spread(theirs)),
            (f"**{side} px, ratio**", f"**{spread(ratios)}**"),
            (f"{side} px, longest pause between two tokens, ms", spread(pauses)),
        ]
        figures |= {"ours": ours, "generate": theirs, "ratio": statistics.median(ratios), "pauses ms": pauses}
        del model, runner
    if size is not FULL:
        print("\n".join(f"{label}: {value}" for label, value in rows))
        return
    figures |= {"rows": rows, "device": torch.cuda.get_device_name()}
    write("accelerator", f"The engine on an {figures['device']}", "make bench-gpu", rows, figures)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tiny", action="store_true", help="in small, on a CPU")
    parser.add_argument("--compile", action="store_true", help="with torch.compile")
    asked = parser.parse_args()
    measure(TINY if asked.tiny else FULL, asked.compile)
