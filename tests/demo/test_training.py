"""The training forward is PaliGemma's own; batches teach what they should; a run that was stopped goes on; and what comes out loads."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, multiprocessing
from transformers import PreTrainedTokenizerFast

from service.demo import lessons, network, plans, train
from service.demo.asking import Checkpoint
from service.demo.codec import CodecPlan, MaskCodec
from service.demo.lessons import Teacher
from service.demo.objective import Objective, neighbours
from service.demo.optimiser import Muon
from service.demo.pages import PACKED, UNPACKED, Batch, Layout, Pointers
from service.demo.pool import Canvas, Pool, make_pool, open_pool
from service.demo.scenes import COLOURS, SHAPES, draw_scene
from service.demo.tokenizer import build_tokenizer

SCENES = 30


@pytest.fixture(autouse=True)
def plain_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts networks without the principal patches, which take seconds to compute."""
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(160, 3 * 28 * 28, generator=generator) / 48
    monkeypatch.setattr(network, "_principal_patches", lambda: (kernel, torch.zeros(160)))
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with an untrained codec and a pool of a few scenes."""
    folder = tmp_path_factory.mktemp("work")
    torch.manual_seed(0)
    codec = MaskCodec().eval()
    torch.save(codec.state_dict(), folder / "codec.pt")
    make_pool(folder / "pool", Canvas(), SCENES, 0, codec, 1)
    return folder


@pytest.fixture(scope="module")
def pool(work: Path) -> Pool:
    return open_pool(work / "pool")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


@pytest.fixture
def objective(tokenizer: PreTrainedTokenizerFast) -> Objective:
    first_location, first_code = (int(tokenizer.convert_tokens_to_ids(token)) for token in ("<loc0000>", "<seg000>"))
    return Objective(network.build_network(tokenizer, 0), first_location, first_code)


def a_batch(pool: Pool, tokenizer: PreTrainedTokenizerFast, layout: Layout, seed: int = 1) -> Batch:
    return Teacher(pool, tokenizer, [seed]).batch(layout)


def test_the_unpacked_forward_is_the_models_own(pool: Pool, tokenizer: PreTrainedTokenizerFast, objective: Objective) -> None:
    batch = a_batch(pool, tokenizer, UNPACKED)
    seen, _, _ = objective._look(batch)
    with torch.no_grad():
        features = objective.network.model.multi_modal_projector(seen)[batch.picture]
        hidden, _ = objective._decode(features, batch, packed=False)
        ours = F.linear(hidden, objective.network.model.language_model.embed_tokens.weight)
        patches = features.shape[1]
        pixels = (batch.pictures.float() / 127.5 - 1).permute(0, 3, 1, 2)
        for row in range(4):
            length = int((batch.pair[row] >= 0).sum())
            image_ids = torch.full((patches,), objective.network.config.image_token_index)
            ids = torch.cat([image_ids, batch.tokens[row, :length]])[None]
            types = torch.cat([torch.zeros(patches, dtype=torch.long), batch.answer[row, :length]])[None]
            picture = pixels[batch.picture[row]][None]
            theirs = objective.network(
                input_ids=ids, attention_mask=torch.ones_like(ids), token_type_ids=types, pixel_values=picture, labels=ids
            ).logits
            torch.testing.assert_close(ours[row, :length], theirs[0, patches:], atol=2e-4, rtol=1e-3)


def test_pairs_of_a_packed_row_do_not_see_one_another(pool: Pool, tokenizer: PreTrainedTokenizerFast, objective: Objective) -> None:
    batch = a_batch(pool, tokenizer, PACKED)
    other = batch.pair == 1
    changed = replace(batch, tokens=torch.where(other, (batch.tokens + 7) % len(tokenizer), batch.tokens))
    with torch.no_grad():
        features = objective.network.model.multi_modal_projector(objective._look(batch)[0])
        before, after = (objective._decode(features, each, packed=True)[0] for each in (batch, changed))
    torch.testing.assert_close(before[batch.pair == 0], after[batch.pair == 0])
    assert not torch.allclose(before[other], after[other])


@pytest.mark.parametrize("layout", [PACKED, UNPACKED])
def test_targets_are_the_next_tokens_of_answers(pool: Pool, tokenizer: PreTrainedTokenizerFast, layout: Layout) -> None:
    batch = a_batch(pool, tokenizer, layout)
    used = batch.weight > 0
    tokens, pair, answer = batch.tokens.flatten(), batch.pair.flatten(), batch.answer.flatten()
    at, target = batch.at[used], batch.target[used]
    ends = target == tokenizer.eos_token_id
    assert torch.equal(tokens[at + 1], target)
    assert torch.equal(pair[at], pair[at + 1])
    assert bool((answer[at + 1] == 1).all())
    assert int(ends.sum()) == len({(int(row), int(number)) for row, number in zip(at // layout.length, pair[at], strict=True)})


def test_pointers_look_at_patches_of_what_the_word_means(pool: Pool, tokenizer: PreTrainedTokenizerFast) -> None:
    batch = a_batch(pool, tokenizer, PACKED)
    words: Pointers = batch.words
    checked = 0
    for index in torch.nonzero(words.real)[:, 0].tolist():
        row = int(words.row[index])
        word = tokenizer.convert_ids_to_tokens(int(batch.tokens[row, words.at[index]])).removeprefix("▁")
        singular = next((shape for shape in SHAPES if word.startswith(shape)), None)
        maps = batch.shape if singular else batch.colour
        value = SHAPES.index(singular) + 1 if singular else tuple(COLOURS).index(word) + 1
        assert torch.equal(words.to[index], maps[row] == value)
        checked += 1
    assert checked > 20


def test_a_box_is_pointed_at_its_name_in_the_prefix(pool: Pool, tokenizer: PreTrainedTokenizerFast) -> None:
    batch = a_batch(pool, tokenizer, PACKED)
    for index in torch.nonzero(batch.names.real)[:, 0].tolist():
        row, to = int(batch.names.row[index]), batch.names.to[index]
        pair = batch.pair[row, batch.names.at[index]]
        assert bool((batch.pair[row][to] == pair).all())
        assert bool((batch.answer[row][to] == 0).all())
        words = set(tokenizer.decode(batch.tokens[row][to]).split())
        assert len(words & set(SHAPES)) == 1, "a name and a bare shape may both mean the thing"
        assert len(words & set(COLOURS)) <= 1
        assert words <= {*SHAPES, *COLOURS}


def test_a_step_moves_the_loss_down(pool: Pool, tokenizer: PreTrainedTokenizerFast, objective: Objective) -> None:
    batch = a_batch(pool, tokenizer, replace(PACKED, pictures=2, points=96, targets=180))
    matrices = [each for name, each in objective.named_parameters() if each.ndim == 2 and "embed" not in name and "head" not in name]
    optimiser = Muon(matrices, lr=5e-3)
    losses: list[float] = []
    for _ in range(6):
        loss, _ = objective.answer(batch, neighbours(2.0), (0.5, 0.4), packed=True)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert losses[-1] < losses[0] - 0.3
    assert np.isfinite(losses).all()


class InlineProcess:
    """A process that runs at once in the test's own."""

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        self._target, self._args, self.exitcode = target, args, 0

    def start(self) -> None:
        try:
            self._target(*self._args)
        except ConnectionAbortedError:
            self.exitcode = 1

    def join(self) -> None:
        pass


class InlineContext:
    """Starts ``InlineProcess``."""

    Process = InlineProcess
    Barrier = threading.Barrier


def tiny_plan(work: Path, out: Path) -> plans.Plan:
    small = replace(PACKED, pictures=2, points=96, targets=180)
    unpacked = replace(UNPACKED, pictures=2, points=60, targets=120)
    phases = plans.phases(see=4, joint=6, unpacked=2, refine=1)
    shapes = (small, small, unpacked, unpacked)
    cut = tuple(replace(phase, layout=layout) for phase, layout in zip(phases, shapes, strict=True))
    return plans.Plan(
        work=work, out=out, start=None, canvas=Canvas(), processes=1, scenes=SCENES, seed=0, codec=CodecPlan(steps=2), phases=cut
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_killed_training_goes_on_and_its_checkpoint_answers(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: InlineContext())
    monkeypatch.setattr(train, "SAVE_EVERY", 2)
    monkeypatch.setattr(train, "LOG_EVERY", 2)
    plan = tiny_plan(work, tmp_path / "out")
    made: list[bool] = []
    batch_of = lessons.Teacher.batch

    def killed_in_the_fifth_step_of_joint(self: Teacher, layout: Layout, text: bool = True) -> Batch:
        made.append(text)
        if made.count(True) == 5:
            raise ConnectionAbortedError
        return batch_of(self, layout, text)

    monkeypatch.setattr(lessons.Teacher, "batch", killed_in_the_fifth_step_of_joint)
    with pytest.raises(SystemExit, match="started again"):
        train.train(plan)
    saved: dict[str, Any] = torch.load(work / "joint.partial.pt", weights_only=True)
    assert saved["steps"] == 4
    assert not plan.out.exists()

    again: list[bool] = []

    def counted(self: Teacher, layout: Layout, text: bool = True) -> Batch:
        again.append(text)
        return batch_of(self, layout, text)

    monkeypatch.setattr(lessons.Teacher, "batch", counted)
    train.train(plan)
    assert len(again) == (6 - 4) + 2 + 1, "see and the first four steps of joint are not done again"
    done: dict[str, Tensor] = torch.load(work / "joint.done.pt", weights_only=True)["objective"]
    assert any(not torch.equal(value, saved["objective"][name]) for name, value in done.items())

    picture = draw_scene(open_pool(work / "pool").scenes[0])
    assert len(Checkpoint(plan.out).ask([picture] * 2, ["caption en", "ocr"], 5)) == 2
    assert {path.name for path in plan.out.iterdir()} >= {"model.safetensors", "mask_decoder.safetensors", "config.json", "training.json"}
