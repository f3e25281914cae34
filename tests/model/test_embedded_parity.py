"""The embedded model through our preprocessing and engine, against transformers' processor and ``generate()``."""

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

import service.demo
from service.demo.questions import ANSWER_KINDS, answer, detect, read, region, segment
from service.demo.scenes import SceneKind, draw_scene, make_scene
from service.engine.generation import Generation, Prompt
from service.model.images import ImageLimits, ImageReader
from service.model.loading import Source, open_checkpoint
from service.model.paligemma import PaliGemma, ServingOptions
from service.model.vision import Normalisation
from tests.model.test_runner_parity import assert_same, run
from tests.random_models import Reference, pixel_values

DEMO = Path(service.demo.__file__).parent / "checkpoints" / "shapes-224"
REQUESTS = int(os.environ.get("PARITY_REQUESTS", "200"))


def asks() -> list[tuple[bytes, str]]:
    """Pictures of several sizes and forms, with every kind of prompt, and token budgets that follow from the kind."""
    rng = np.random.default_rng(31)
    made: list[tuple[bytes, str]] = []
    while len(made) < REQUESTS:
        scene = make_scene(rng, SceneKind(sign_share=0.4))
        names = [thing.name for thing in scene.things] or ["sign"]
        question = answer(scene, rng, ANSWER_KINDS[int(rng.integers(len(ANSWER_KINDS)))])
        prompts = ["caption en", detect(scene, names).prefix, segment(scene, names[:2], lambda thing: (0,) * 16).prefix]
        prompts += [read(scene).prefix, region(scene, rng).prefix, question.prefix if question else "answer en how many shapes are there?"]
        file = BytesIO()
        side = int(rng.integers(100, 500))
        draw_scene(scene, 224).resize((side, int(rng.integers(100, 500)))).save(file, "PNG")
        made.append((file.getvalue(), prompts[len(made) % len(prompts)]))
    return made


@pytest.fixture(scope="module")
def reference_model() -> PaliGemmaForConditionalGeneration:
    return PaliGemmaForConditionalGeneration.from_pretrained(DEMO, dtype=torch.float32).eval()


@torch.inference_mode()
def test_requests_equal_generate_one_by_one(reference_model: PaliGemmaForConditionalGeneration) -> None:
    processor = AutoProcessor.from_pretrained(DEMO)
    ours = PaliGemma(
        open_checkpoint(Source(str(DEMO), dtype="float32", device="cpu")), ServingOptions(16, 64, 96), ImageReader(ImageLimits())
    )
    runner = ours.make_runner(torch.get_num_threads)
    vision = processor.image_processor
    normalisation = Normalisation(vision.rescale_factor, tuple(vision.image_mean), tuple(vision.image_std))
    generations, references = [], []
    for data, prompt in asks():
        inputs = processor(images=Image.open(BytesIO(data)).convert("RGB"), text=f"<image>{prompt}", return_tensors="pt")
        prepared = Prompt((ours.picture(data),), ours.tokens(prompt, locations_allowed=True))
        images = runner.image_tokens
        assert tuple(inputs["input_ids"][0, images:].tolist()) == prepared.tokens
        pixels = torch.from_numpy(np.asarray(prepared.pictures[0].pixels))
        assert torch.equal(inputs["pixel_values"][0], pixel_values(pixels, normalisation))
        generations.append(Generation(prepared, max_tokens=96))
        output = reference_model.generate(**inputs, max_new_tokens=96, do_sample=False, output_logits=True, return_dict_in_generate=True)
        tokens = output.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        end = next((index for index, token in enumerate(tokens) if token in runner.end_tokens), len(tokens))
        references.append(Reference(tuple(tokens[:end]), torch.cat(output.logits)))
    assert len({each.tokens for each in references}) > REQUESTS // 2
    assert_same(run(runner, generations, seed=7), references, "embedded model")
