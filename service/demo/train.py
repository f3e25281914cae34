"""``python -m service.demo.train``: makes the embedded model from nothing, on a CPU. Killed and started again, it goes on."""

import argparse
import json
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as processes_of
from torch import Tensor, nn
from tqdm import tqdm

from service.demo.codec import CodecPlan, MaskCodec, codec_quality, train_codec
from service.demo.export import export
from service.demo.lessons import Teacher
from service.demo.network import build_network
from service.demo.objective import MEASURES, Objective, neighbours
from service.demo.optimiser import Rates, SharedOptimiser, Together
from service.demo.pages import PACKED, UNPACKED, Layout
from service.demo.pool import make_pool, open_pool
from service.demo.tokenizer import build_tokenizer

LOG_EVERY = 50
SAVE_EVERY = 500
WARM_UP = 100


@dataclass(frozen=True, slots=True)
class PhasePlan:
    """A part of the training. The rate rises over ``WARM_UP`` steps, stays, and falls to ``low`` over the last ``cooling`` part of it."""

    name: str
    steps: int
    layout: Layout
    rates: Rates
    cooling: float
    low: float
    text: bool = True
    spread: tuple[float, float] = (1.5, 1.5)
    weights: tuple[float, float] = (0.5, 0.4)
    absent_share: float = 0.12

    def rate(self, step: int) -> float:
        """Part of the full rate at a step."""
        rising = min(1.0, (step + 1) / WARM_UP)
        falling = min(1.0, (1 - step / self.steps) / self.cooling)
        return rising * (self.low + (1 - self.low) * falling)

    def spread_at(self, step: int) -> float:
        """How many bins wide a location target is at a step."""
        start, end = self.spread
        return float(start * (end / start) ** min(1.0, step / self.steps / 0.8))


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides what comes out, besides the machine's rounding."""

    work: Path
    out: Path
    processes: int
    scenes: int
    seed: int
    codec: CodecPlan
    phases: tuple[PhasePlan, ...]


def phases(see: int, joint: int, unpacked: int, refine: int) -> tuple[PhasePlan, ...]:
    """See: the tower learns what patches show. Joint: many questions on one picture. Unpacked: PaliGemma's own mask, as it is served.

    Refine: as unpacked, slower, with many absent names, which a list tempts to box.
    """
    return (
        PhasePlan("see", see, PACKED, Rates(5e-3, 2e-3), cooling=0.5, low=0.1, text=False),
        PhasePlan("joint", joint, PACKED, Rates(5e-3, 2e-3), cooling=0.6, low=0.05, spread=(6.0, 0.7)),
        PhasePlan("unpacked", unpacked, UNPACKED, Rates(1.2e-3, 4e-4), cooling=1.0, low=0.02, spread=(0.7, 0.4)),
        PhasePlan("refine", refine, UNPACKED, Rates(8e-4, 3e-4), cooling=1.0, low=0.02, spread=(0.4, 0.4), absent_share=0.3),
    )


def train(plan: Plan) -> None:
    """Every phase that is not done yet, then the checkpoint."""
    plan.work.mkdir(parents=True, exist_ok=True)
    codec = _codec(plan)
    make_pool(plan.work / "pool", plan.scenes, plan.seed, codec, plan.processes)
    tokenizer = build_tokenizer()
    for phase in plan.phases:
        if not (plan.work / f"{phase.name}.done.pt").exists():
            _run_phase(plan, phase)
    objective = _objective(plan, tokenizer)
    objective.load_state_dict(torch.load(plan.work / f"{plan.phases[-1].name}.done.pt", weights_only=True)["objective"])
    export(plan.out, objective.network, tokenizer, codec)
    (plan.out / "training.json").write_text(json.dumps(_record(plan, codec), indent=1) + "\n")


def _codec(plan: Plan) -> MaskCodec:
    codec, saved = MaskCodec(), plan.work / "codec.pt"
    if saved.exists():
        codec.load_state_dict(torch.load(saved, weights_only=True))
        return codec.eval()
    torch.set_num_threads(plan.processes)
    began = time.monotonic()
    codec = train_codec(plan.codec, plan.seed)
    _log(plan, {"phase": "codec", "seconds": round(time.monotonic() - began), **codec_quality(codec)})
    torch.save(codec.state_dict(), saved)
    return codec


def _objective(plan: Plan, tokenizer: Any) -> Objective:
    first_location, first_code = (int(tokenizer.convert_tokens_to_ids(token)) for token in ("<loc0000>", "<seg000>"))
    return Objective(build_network(tokenizer, plan.seed), first_location, first_code)


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
        "command": "python -m service.demo.train",
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
    parser = argparse.ArgumentParser(description="Train the embedded model from nothing, on a CPU.")
    parser.add_argument("--work-dir", type=Path, default=Path("build/demo"), help="drawn scenes, saves and the log (7 GB)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "checkpoints" / "shapes-224")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--scenes", type=int, default=45_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--see-steps", type=int, default=4_000)
    parser.add_argument("--joint-steps", type=int, default=5_500)
    parser.add_argument("--unpacked-steps", type=int, default=2_400)
    parser.add_argument("--refine-steps", type=int, default=600)
    asked = parser.parse_args()
    plan = Plan(
        work=asked.work_dir,
        out=asked.out,
        processes=asked.processes,
        scenes=asked.scenes,
        seed=asked.seed,
        codec=CodecPlan(),
        phases=phases(asked.see_steps, asked.joint_steps, asked.unpacked_steps, asked.refine_steps),
    )
    train(plan)


if __name__ == "__main__":
    main()
