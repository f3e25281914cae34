"""32 requests at once through the service's tasks, against transformers' ``generate()`` one by one: same weights, process and pictures.

Both sides do the whole work but HTTP: picture bytes and prompt in, text out. They take turns, so that a slow minute of the machine slows
both; each round asks the same requests of both, and their texts are compared.
"""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

from load_tests.report import spread, write
from service.demo.questions import answer, detect, read, segment
from service.demo.scenes import SceneKind, draw_scene, make_scene
from service.observability.metrics import Metrics
from service.settings import Settings
from service.tasks.tasks import Options
from service.wiring import PaliServe, demo_settings

REQUESTS = 128
CONCURRENT = 32
ROUNDS = 5
MAX_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    image: bytes
    prompt: str


def asks(count: int, seed: int) -> list[Ask]:
    """Captions, questions, detections, segmentations and reading in turn, each on its own held-out scene."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        scene = make_scene(rng, SceneKind(sign_share=1.0 if index % 5 == 4 else 0.2))
        names = [thing.name for thing in scene.things] or ["sign"]
        question = answer(scene, rng, "count of all")
        prompts = (
            "caption en",
            question.prefix if question else "answer en how many shapes are there?",
            detect(scene, names).prefix,
            segment(scene, names[:1], lambda thing: (0,) * 16).prefix,
            read(scene).prefix,
        )
        file = BytesIO()
        draw_scene(scene, 224).save(file, "PNG")
        made.append(Ask(file.getvalue(), prompts[index % 5]))
    return made


class OneByOne:
    """What people write first: the processor, then ``generate()``."""

    def __init__(self, source: str) -> None:
        self._model = PaliGemmaForConditionalGeneration.from_pretrained(source, dtype=torch.float32).eval()
        self._processor = AutoProcessor.from_pretrained(source)

    @torch.inference_mode()
    def ask(self, wanted: Ask) -> str:
        picture = Image.open(BytesIO(wanted.image)).convert("RGB")
        inputs = self._processor(images=picture, text=f"<image>{wanted.prompt}", return_tensors="pt")
        output = self._model.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False)
        text: str = self._processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return text


async def together(service: PaliServe, wanted: Sequence[Ask]) -> list[str]:
    """All requests, ``CONCURRENT`` at a time."""
    door = asyncio.Semaphore(CONCURRENT)

    async def one(each: Ask) -> str:
        async with door:
            result = await service.tasks.generate(each.image, Options(max_tokens=MAX_TOKENS), each.prompt)
        return result.answer.text

    return list(await asyncio.gather(*(one(each) for each in wanted)))


async def measure() -> None:
    """Alternate the two and write the results."""
    service = PaliServe(Settings(), Metrics("bench"))
    await service.start()
    rival = OneByOne(demo_settings().source)
    warm = asks(CONCURRENT, seed=1)
    await together(service, warm)
    for each in warm[:5]:
        rival.ask(each)
    ours, theirs, same = [], [], 0
    for turn in range(ROUNDS):
        wanted = asks(REQUESTS, seed=100 + turn)
        began = time.perf_counter()
        answers = await together(service, wanted)
        ours.append(REQUESTS / (time.perf_counter() - began))
        began = time.perf_counter()
        expected = [rival.ask(each) for each in wanted]
        theirs.append(REQUESTS / (time.perf_counter() - began))
        same += sum(one == other for one, other in zip(answers, expected, strict=True))
        print(f"round {turn + 1} of {ROUNDS}: {ours[-1]:.1f} against {theirs[-1]:.1f} requests/s", flush=True)
    await service.stop()
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    rows = [
        (f"PaliServe, {CONCURRENT} at once, requests/s", spread(ours)),
        ("`generate()` one by one, requests/s", spread(theirs)),
        ("**ratio**", f"**{spread(ratios)}**"),
        ("same text", f"{same} of {ROUNDS * REQUESTS}"),
    ]
    figures = {"ours": ours, "theirs": theirs, "ratio": statistics.median(ratios), "same text": same, "requests": ROUNDS * REQUESTS}
    write("engine_against_generate", "The engine against `generate()`, one by one", "make bench", rows, figures)


if __name__ == "__main__":
    asyncio.run(measure())
