"""Requests with different LoRA adapters, and with none, in one batch: against peft's own ``generate()``, one by one, in float32."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PaliGemmaForConditionalGeneration

from service.engine.generation import Generation, Prompt
from service.model.adapters import AdapterError, read_adapter
from service.model.runner import PaliGemmaRunner, RunnerOptions
from tests.model.test_runner_parity import assert_same, run
from tests.random_models import END_TOKENS, NORMALISATION, Reference, random_generations, random_model, reference

TEXT = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
EVERYTHING = [*TEXT, "out_proj", "fc1", "fc2", "multi_modal_projector.linear"]
ADAPTERS: dict[str, dict[str, Any]] = {
    "narrow": {"r": 2, "lora_alpha": 4, "target_modules": r".*language_model.*\.(q_proj|v_proj)"},
    # As the notebooks have it: the tower's layers of the same names are adapted too.
    "usual": {"r": 8, "lora_alpha": 8, "target_modules": TEXT},
    "everything": {"r": 5, "lora_alpha": 10, "target_modules": EVERYTHING, "use_rslora": True},
}


def saved(folder: Path, base: PaliGemmaForConditionalGeneration, **config: Any) -> Path:
    """An adapter with random weights, as peft saves it."""
    torch.manual_seed(len(folder.name))
    made = get_peft_model(base, LoraConfig(init_lora_weights=False, **config))
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "lora_" in name:
                weight.normal_(0, 0.4 * weight.shape[-1] ** -0.5)
    made.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["PaliGemma 1", "PaliGemma 2"])
def adapted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PaliGemmaRunner, list[Generation], list[Reference]]:
    """A runner with three adapters, generations that ask for them or for none, and what peft answers to each."""
    folder = tmp_path_factory.mktemp("adapters")
    folders = {name: saved(folder / name, random_model(request.param), **config) for name, config in ADAPTERS.items()}
    runner = PaliGemmaRunner(random_model(request.param), NORMALISATION, RunnerOptions(6, 80, adapters=4, adapter_rank=8))
    chance = random.Random(7)
    generations = random_generations(48, seed=11)
    places = [chance.randrange(4) for _ in generations]
    seeing = dict.fromkeys((2, 3), True)
    references: list[Reference | None] = [None] * len(generations)
    for place, name in enumerate([None, *ADAPTERS]):
        model = random_model(request.param)
        if name is not None:
            model = PeftModel.from_pretrained(model, folders[name]).eval()
            runner.adopt(place, runner.read_adapter(str(folders[name])))
        for index, each in enumerate(generations):
            if places[index] == place:
                references[index] = reference(model, each, END_TOKENS)
    asked = [
        replace(
            each,
            adapter=place,
            prompt=Prompt(
                tuple(replace(picture, adapter=place if seeing.get(place) else 0) for picture in each.prompt.pictures), each.prompt.tokens
            ),
        )
        for each, place in zip(generations, places, strict=True)
    ]
    return runner, asked, [each for each in references if each is not None]


Adapted = tuple[PaliGemmaRunner, list[Generation], list[Reference]]


def test_the_adapters_matter(adapted: Adapted) -> None:
    """Else the comparison would prove little."""
    runner, generations, references = adapted
    plain = [replace(each, adapter=0, prompt=Prompt(_plain(each), each.prompt.tokens)) for each in generations]
    differing = [
        without.tokens != expected.tokens
        for without, expected, each in zip(run(runner, plain, seed=None), references, generations, strict=True)
        if each.adapter
    ]
    assert sum(differing) > 0.8 * len(differing)


def _plain(generation: Generation) -> tuple[Any, ...]:
    return tuple(replace(picture, adapter=0, features=None) for picture in generation.prompt.pictures)


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_each_request_has_its_own_adapter_in_any_company(adapted: Adapted, seed: int | None) -> None:
    runner, generations, references = adapted
    assert_same(run(runner, generations, seed), references, "adapters")


def test_merged_is_the_same(tmp_path: Path) -> None:
    folder = saved(tmp_path / "merged", random_model(False), **ADAPTERS["everything"])
    runner = PaliGemmaRunner(random_model(False), NORMALISATION, RunnerOptions(4, 80, adapters=1, adapter_rank=8))
    runner.adopt(1, runner.read_adapter(str(folder)))
    merged = PeftModel.from_pretrained(random_model(False), folder).merge_and_unload()
    generations = random_generations(12, seed=3)
    references = [reference(merged, each, END_TOKENS) for each in generations]
    for each in generations:
        each.prompt.pictures[0].adapter = 1
    assert_same(run(runner, [replace(each, adapter=1) for each in generations], 4), references, "a merged adapter")


def test_a_place_that_was_emptied_adds_nothing(adapted: Adapted) -> None:
    runner, generations, _ = adapted
    model = random_model(False) if runner._softcap is None else random_model(True)
    folder_less = [replace(each, adapter=4, prompt=Prompt(_plain(each), each.prompt.tokens)) for each in generations[:8]]
    references = [reference(model, each, END_TOKENS) for each in folder_less]
    assert_same(run(runner, folder_less, None), references, "an empty place")


def test_old_names_of_transformers_are_read(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = saved(tmp_path / "old", random_model(False), **ADAPTERS["usual"])
    before = read_adapter(folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    older = {
        name.replace("model.model.language_model.", "model.language_model.model.").replace(
            "model.model.vision_tower.", "model.vision_tower.vision_model."
        ): tensor
        for name, tensor in tensors.items()
    }
    assert set(older) != set(tensors)
    save_file(older, folder / "adapter_model.safetensors")
    after = read_adapter(folder)
    assert after.modules.keys() == before.modules.keys()
    assert after.sees


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings:UserWarning", "ignore:Setting `save_embedding_layers:UserWarning")
@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        ({"r": 16, "target_modules": ["q_proj"]}, "rank is 16.*max_adapter_rank"),
        ({"r": 2, "target_modules": ["lm_head"]}, "lm_head.*not a part that can be adapted"),
        ({"r": 2, "target_modules": ["q_proj"], "use_dora": True}, "use_dora.*merge"),
        ({"r": 2, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"r": 2, "target_modules": ["q_proj", "v_proj"], "alpha_pattern": {"q_proj": 3}}, "alpha_pattern"),
        ({"r": 2, "target_modules": ["q_proj"], "bias": "lora_only"}, "bias"),
    ],
)
def test_what_is_not_served_is_refused_in_words(config: dict[str, Any], wrong: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "refused", random_model(False), **config)
    runner = PaliGemmaRunner(random_model(False), NORMALISATION, RunnerOptions(2, 40, adapters=1, adapter_rank=8))
    with pytest.raises(AdapterError, match=wrong):
        runner.read_adapter(str(folder))


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"alora_invocation_tokens": [5, 6]}, "alora_invocation_tokens"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4, which changes its base"),
        ({"init_lora_weights": "olora"}, "olora"),
        ({"init_lora_weights": "gaussian"}, ""),
        ({"lora_alpha": None}, "no number as lora_alpha"),
        ({"lora_alpha": "8"}, "no number as lora_alpha"),
        ({"lora_alpha": float("nan")}, "no number as lora_alpha"),
    ],
)
def test_what_a_configuration_asks_besides(change: dict[str, Any], wrong: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "changed", random_model(False), **ADAPTERS["narrow"])
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | change))
    if not wrong:
        assert read_adapter(folder).rank == 2
        return
    with pytest.raises(AdapterError, match=wrong):
        read_adapter(folder)


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "other", random_model(True), **ADAPTERS["usual"])
    runner = PaliGemmaRunner(random_model(False), NORMALISATION, RunnerOptions(2, 40, adapters=1, adapter_rank=8))
    with pytest.raises(AdapterError, match="another base"):
        runner.read_adapter(str(folder))


@pytest.mark.parametrize("broken", ["no config", "not json", "ia3", "no weights", "half", "no rank"])
def test_broken_folders_are_told(broken: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = saved(tmp_path / "broken", random_model(False), **ADAPTERS["narrow"])
    config, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    if broken == "no config":
        config.unlink()
    elif broken == "not json":
        config.write_text("{")
    elif broken == "ia3":
        config.write_text('{"peft_type": "IA3"}')
    elif broken == "no weights":
        weights.write_bytes(b"none")
    elif broken == "no rank":
        empty = {name: tensor[:0] if "lora_A" in name else tensor[:, :0] for name, tensor in load_file(weights).items()}
        save_file({name: tensor.contiguous() for name, tensor in empty.items()}, weights)
    else:
        save_file({name: tensor for name, tensor in load_file(weights).items() if "lora_A" in name}, weights)
    with pytest.raises(AdapterError):
        read_adapter(folder)


def runs(places: Sequence[int]) -> list[tuple[int, int, int]]:
    from service.model.low_rank import runs_of

    found = runs_of(places, [2] * len(places))
    return [] if found is None else [(run.rows.start, run.rows.stop, run.place) for run in found.runs]


def test_neighbours_of_one_adapter_are_one_run() -> None:
    assert runs([0, 0]) == []
    assert runs([1, 1, 0, 2, 1]) == [(0, 4, 0), (6, 8, 1), (8, 10, 0)]
