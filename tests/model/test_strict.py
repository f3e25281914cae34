"""Constrained decoding on the embedded model: legal answers stay as they are, and every answer parses."""

import re
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

import service.demo
from service.demo.scenes import SceneKind, draw_scene, make_scene
from service.engine.device import RunnerFacts
from service.engine.generation import FinishReason, Generated, Generation, Prompt, Sampling
from service.engine.lexicon import Lexicon
from service.model.images import ImageLimits, ImageReader
from service.model.loading import Source, open_checkpoint
from service.model.paligemma import PaliGemma, ServingOptions
from service.model.runner import PaliGemmaRunner
from service.tasks.grammars import prefix_grammar, text_grammar
from service.tasks.parsing import ParsedObject, parse_objects
from tests.model.test_runner_parity import run

DEMO = Path(service.demo.__file__).parent / "checkpoints" / "shapes-224"
ABSENT = ["elephant", "purple dinosaur", "red circle"]


@dataclass(frozen=True)
class Bench:
    model: PaliGemma
    runner: PaliGemmaRunner
    lexicon: Lexicon
    generations: list[Generation]
    names: list[list[str]]

    def parsed(self, generated: Generated) -> list[ParsedObject]:
        return parse_objects(generated.tokens, generated.probabilities, self.model.vocabulary)


@pytest.fixture(scope="module")
def bench() -> Bench:
    """Pictures with names that are in them, in turn with names that are not, to be detected and to be segmented."""
    model = PaliGemma(open_checkpoint(Source(str(DEMO), device="cpu")), ServingOptions(16, 64, 128), ImageReader(ImageLimits()))
    runner = model.make_runner(torch.get_num_threads)
    facts = RunnerFacts(runner.slots, runner.image_tokens, runner.feature_bytes, runner.end_tokens, runner.vocabulary_size)
    rng, generations, names = np.random.default_rng(77), [], []
    for index in range(80):
        scene = make_scene(rng, SceneKind(sign_share=0.2))
        asked = ABSENT if index % 3 == 2 else [thing.name for thing in scene.things][:3] or ["sign"]
        file = BytesIO()
        draw_scene(scene, 224).save(file, "PNG")
        prefix = ("detect ", "segment ")[index % 2] + " ; ".join(asked)
        generations.append(Generation(Prompt((model.picture(file.getvalue()),), model.tokens(prefix, False)), 128))
        names.append([prefix.split()[0], *asked])
    return Bench(model, runner, model.lexicon(facts), generations, names)


def strict(bench: Bench) -> list[Generation]:
    made = []
    for generation, (task, *names) in zip(bench.generations, bench.names, strict=True):
        made.append(replace(generation, grammar=prefix_grammar(f"{task} {' ; '.join(names)}", bench.lexicon)))
    return made


def is_legal_text(text: str, task: str, names: list[str]) -> bool:
    """Whether an answer is nothing but objects of the task with asked names, by the letter."""
    marks = "(<loc[0-9]{4}>){4}" + (" ?(<seg[0-9]{3}>){16}" if task == "segment" else "")
    each = f"{marks} ?({'|'.join(map(re.escape, names))})"
    return re.fullmatch(f"({each}( ; {each})*( ;| ; )?)?", text) is not None


def is_complete(objects: list[ParsedObject], generated: Generated, task: str, names: list[str]) -> bool:
    """Whether all objects have asked names, and masks where they should."""
    whole = all(each.label in names and (each.codes is not None) == (task == "segment") for each in objects)
    return whole and generated.finish_reason is FinishReason.STOP


def test_legal_answers_stay_as_they_are(bench: Bench) -> None:
    free, bound = run(bench.runner, bench.generations, seed=1), run(bench.runner, strict(bench), seed=2)
    same = legal = 0
    for one, other, (task, *names) in zip(free, bound, bench.names, strict=True):
        if one.finish_reason is FinishReason.STOP and is_legal_text(bench.model.vocabulary.decode(one.tokens), task, names):
            legal += 1
            same += one.tokens == other.tokens
    print(f"parity strict: {same} of {legal} legal answers equal")
    assert legal > 40
    assert same == legal


def test_every_answer_parses_whatever_is_asked_and_however_hot(bench: Bench) -> None:
    hot = [replace(each, sampling=Sampling(2.0, seed=index)) for index, each in enumerate(strict(bench))]
    found = 0
    for generated, (task, *names) in zip(run(bench.runner, hot, seed=3), bench.names, strict=True):
        objects = bench.parsed(generated)
        complete = objects if generated.finish_reason is FinishReason.STOP else objects[:-1]
        assert is_complete(complete, replace(generated, finish_reason=FinishReason.STOP), task, names)
        found += len(complete)
        first, count = bench.model.vocabulary.first_location, 4 * len(complete)
        if generated.finish_reason is FinishReason.STOP:
            assert sum(first <= token < first + 1024 for token in generated.tokens) == count
    assert found > 50


def test_a_strict_text_holds_no_marks(bench: Bench) -> None:
    hot = [
        replace(each, sampling=Sampling(2.0, seed=index), grammar=text_grammar(bench.lexicon), max_tokens=20)
        for index, each in enumerate(bench.generations[:30])
    ]
    for generated in run(bench.runner, hot, seed=4):
        assert "<loc" not in bench.model.vocabulary.decode(generated.tokens)
        assert "<seg" not in bench.model.vocabulary.decode(generated.tokens)


def test_strict_neighbours_change_nobody_elses_tokens(bench: Bench) -> None:
    bound = strict(bench)
    mixed = [bound[index] if index % 2 else bench.generations[index] for index in range(len(bound))]
    together = run(bench.runner, mixed, seed=5)
    alone = [run(bench.runner, [each], seed=None)[0] for each in mixed[:20]]
    assert [each.tokens for each in together[:20]] == [each.tokens for each in alone]
