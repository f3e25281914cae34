"""``python -m service.demo.train``: makes the embedded model from nothing, on a CPU; with ``--side 448`` the finer one from that.

Killed and started again, it goes on.
"""

import argparse
import json
import platform
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as processes_of
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PaliGemmaForConditionalGeneration

from service.demo.codec import MaskCodec, codec_quality, train_codec
from service.demo.export import export
from service.demo.lessons import Teacher
from service.demo.network import SIDE, build_network, with_finer_grid
from service.demo.objective import MEASURES, Objective, neighbours
from service.demo.optimiser import SharedOptimiser, Together
from service.demo.plans import PLANS, PhasePlan, Plan
from service.demo.pool import make_pool, open_pool
from service.demo.tokenizer import build_tokenizer

LOG_EVERY = 50
SAVE_EVERY = 500


def train(plan: Plan) -> None:
    """Every phase that is not done yet, then the checkpoint."""
    plan.work.mkdir(parents=True, exist_ok=True)
    codec = _codec(plan)
    make_pool(plan.work / "pool", plan.canvas, plan.scenes, plan.seed, codec, plan.processes)
    tokenizer = build_tokenizer()
    for phase in plan.phases:
        if not (plan.work / f"{phase.name}.done.pt").exists():
            _run_phase(plan, phase)
    objective = _objective(plan, tokenizer)
    objective.load_state_dict(torch.load(plan.work / f"{plan.phases[-1].name}.done.pt", weights_only=True)["objective"])
    export(plan.out, objective.network, tokenizer, None if plan.start else codec)
    (plan.out / "training.json").write_text(json.dumps(_record(plan, codec), indent=1) + "\n")


def _codec(plan: Plan) -> MaskCodec:
    codec, saved = MaskCodec(), plan.work / "codec.pt"
    if saved.exists():
        codec.load_state_dict(torch.load(saved, weights_only=True))
        return codec.eval()
    torch.set_num_threads(plan.processes)
    began = time.monotonic()
    known = load_file(plan.start / "mask_decoder.safetensors") if plan.start else None
    codec = train_codec(plan.codec, plan.seed, known)
    _log(plan, {"phase": "codec", "seconds": round(time.monotonic() - began), **codec_quality(codec)})
    torch.save(codec.state_dict(), saved)
    return codec


def _objective(plan: Plan, tokenizer: Any) -> Objective:
    first_location, first_code = (int(tokenizer.convert_tokens_to_ids(token)) for token in ("<loc0000>", "<seg000>"))
    if plan.start is None:
        return Objective(build_network(tokenizer, plan.seed), first_location, first_code)
    known = PaliGemmaForConditionalGeneration.from_pretrained(plan.start, dtype=torch.float32)
    return Objective(with_finer_grid(known, plan.canvas.side), first_location, first_code)


def _run_phase(plan: Plan, phase: PhasePlan) -> None:
    """Start the processes over shared parameters and wait for them."""
    torch.set_num_threads(1)
    objective = _objective(plan, build_tokenizer())
    names = [each.name for each in plan.phases]
    before = names.index(phase.name) - 1
    if before >= 0:
        objective.load_state_dict(torch.load(plan.work / f"{names[before]}.done.pt", weights_only=True)["objective"])
    half_way = plan.work / f"{phase.name}.partial.pt"
    state = torch.load(half_way, weights_only=True) if half_way.exists() else None
    if state:
        objective.load_state_dict(state["objective"])
    objective.share_memory()
    count = sum(parameter.numel() for parameter in objective.parameters())
    gradients, norms = _shared(plan.processes, count), _shared(plan.processes)
    context = processes_of.get_context("spawn")
    barrier = context.Barrier(plan.processes)
    togethers = [Together(rank, plan.processes, gradients, norms, barrier) for rank in range(plan.processes)]
    crew = [
        context.Process(target=_work, args=(plan, phase, objective, together, state["steps"] if state else 0)) for together in togethers
    ]
    for worker in crew:
        worker.start()
    for worker in crew:
        worker.join()
    if any(worker.exitcode for worker in crew):
        raise SystemExit(f"{phase.name}: a training process failed; started again, the training goes on from the last save")


def _shared(*size: int) -> Tensor:
    zeros: Tensor = torch.zeros(*size).share_memory_()  # type: ignore[no-untyped-call]
    return zeros


def _work(plan: Plan, phase: PhasePlan, objective: Objective, together: Together, first_step: int) -> None:
    """One process of a phase."""
    torch.set_num_threads(1)
    try:
        _work_until_done(plan, phase, objective, together, first_step)
    except BaseException:
        together.barrier.abort()  # type: ignore[attr-defined]
        raise


def _work_until_done(plan: Plan, phase: PhasePlan, objective: Objective, together: Together, first_step: int) -> None:
    leader = together.rank == 0
    optimiser = SharedOptimiser(objective, together, phase.rates)
    own_state = plan.work / f"{phase.name}.optimiser{together.rank}.pt"
    if first_step:
        optimiser.restore(torch.load(own_state, weights_only=True))
    teacher = Teacher(
        open_pool(plan.work / "pool"), build_tokenizer(), [plan.seed, together.rank, first_step, len(phase.name)], phase.absent_share
    )
    lessons = teacher.batches(phase.layout, phase.text)
    near = neighbours(phase.spread_at(first_step))
    sums, began, counted = torch.zeros(len(MEASURES)), time.monotonic(), 0
    with tqdm(total=phase.steps, initial=first_step, desc=phase.name, disable=not leader, mininterval=5) as bar:
        for step in range(first_step, phase.steps):
            if step % 50 == 0:
                near.copy_(neighbours(phase.spread_at(step)))
            batch = next(lessons)
            loss, measures = objective.answer(batch, near, phase.weights, phase.layout.packed) if phase.text else objective.see(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step(phase.rate(step))
            sums += measures
            counted += 1
            bar.update()
            if (step + 1) % LOG_EVERY == 0 and leader:
                speed = counted * phase.layout.pictures * together.processes / (time.monotonic() - began)
                measured = {name: round(value, 3) for name, value in zip(MEASURES, (sums / counted).tolist(), strict=True)}
                _log(plan, {"phase": phase.name, "step": step + 1, "pictures per second": round(speed, 1), **measured})
                sums, began, counted = torch.zeros(len(MEASURES)), time.monotonic(), 0
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == phase.steps:
                _save(plan, phase, objective, optimiser, (together, step + 1))


def _save(plan: Plan, phase: PhasePlan, objective: nn.Module, optimiser: SharedOptimiser, at: tuple[Together, int]) -> None:
    """Each process its optimiser, the first one the parameters; renamed into place, so that a kill leaves the save before."""
    together, steps = at
    own_state = plan.work / f"{phase.name}.optimiser{together.rank}.pt"
    _save_whole(optimiser.state(), own_state)
    together.barrier.wait()
    if together.rank == 0:
        name = "done" if steps == phase.steps else "partial"
        _save_whole({"objective": objective.state_dict(), "steps": steps}, plan.work / f"{phase.name}.{name}.pt")
    together.barrier.wait()


def _save_whole(what: object, path: Path) -> None:
    unfinished = path.with_suffix(".unfinished")
    torch.save(what, unfinished)
    unfinished.rename(path)


def _log(plan: Plan, entry: dict[str, Any]) -> None:
    with (plan.work / "log.jsonl").open("a") as log:
        log.write(json.dumps(entry | {"time": round(time.time())}) + "\n")


def _record(plan: Plan, codec: MaskCodec) -> dict[str, Any]:
    """How the checkpoint came about."""
    entries = [json.loads(line) for line in (plan.work / "log.jsonl").read_text().splitlines()]
    seconds = {
        phase.name: sum(
            round(LOG_EVERY * phase.layout.pictures * plan.processes / entry["pictures per second"])
            for entry in entries
            if entry["phase"] == phase.name
        )
        for phase in plan.phases
    }
    return {
        "command": f"python -m service.demo.train --side {plan.canvas.side}",
        "start": plan.start.name if plan.start else None,
        "seed": plan.seed,
        "scenes": plan.scenes,
        "processes": plan.processes,
        "steps": {phase.name: phase.steps for phase in plan.phases},
        "seconds": seconds,
        "codec": {key: round(value, 3) for key, value in codec_quality(codec).items()},
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers", "numpy", "pillow")}
        | {"python": platform.python_version()},
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the embedded models, on a CPU.")
    parser.add_argument("--side", type=int, choices=list(PLANS), default=SIDE, help="which one, by the side of its pictures")
    parser.add_argument(
        "--work-dir", type=Path, default=Path("build/demo"), help="drawn scenes, saves and the log (7 GB for 224, 10 for 448)"
    )
    parser.add_argument("--out", type=Path, help="where the checkpoint goes; without it, where the service finds it")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--scenes", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--steps", nargs="*", default=[], metavar="PHASE=STEPS", help="other lengths of phases: see=4000")
    asked = parser.parse_args()
    plan = PLANS[asked.side](asked.work_dir)
    given = {name: value for name in ("out", "processes", "scenes", "seed") if (value := getattr(asked, name)) is not None}
    steps = {name: int(count) for name, count in (each.split("=") for each in asked.steps)}
    train(replace(plan, **given, phases=tuple(replace(each, steps=steps.get(each.name, each.steps)) for each in plan.phases)))


if __name__ == "__main__":
    main()
