"""``python -m service.demo.evaluate``: what the embedded models get right on scenes they have not seen, beside what was aimed at."""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from tqdm import tqdm

from service.demo.asking import Checkpoint
from service.demo.family import CHECKPOINTS, FAMILY
from service.demo.figures import TOPICS, Examination, Figures


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should be at least, or at most."""

    value: float
    at_most: bool = False

    def met(self, reached: float) -> bool:
        """Whether the figure is good enough."""
        return reached <= self.value if self.at_most else reached >= self.value

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.value:.2f}"


TARGETS: dict[tuple[str, str], Target] = {
    ("detect", "recall, 1-2"): Target(0.97),
    ("detect", "recall, 3-4"): Target(0.80),
    ("detect", "mean IoU of the found"): Target(0.85),
    ("absent names", "boxed alone"): Target(0.05, at_most=True),
    ("absent names", "boxed in a list"): Target(0.05, at_most=True),
    ("answer", "how many"): Target(0.85),
    ("answer", "colour"): Target(0.85),
    ("answer", "shape"): Target(0.85),
    ("answer", "is there"): Target(0.85),
    ("answer", "all together"): Target(0.90),
    ("caption", "exactly the right set"): Target(0.80),
    ("segment", "mask IoU"): Target(0.70),
    ("ocr", "exact"): Target(0.75),
}


def evaluate(exam: Examination, topics: list[str]) -> dict[str, Figures]:
    """The figures of each topic."""
    return {topic: TOPICS[topic](exam) for topic in tqdm(topics, desc="evaluate")}


def table(figures: Mapping[str, Mapping[str, Figures]], scenes: int) -> str:
    """Markdown, a column for each model; within a topic those with a target come first. What misses its target is bold."""
    lines = [f"| task | figure | {' | '.join(figures)} | target |", "|---" * (3 + len(figures)) + "|"]
    for topic, reached in next(iter(figures.values())).items():
        for name in sorted(reached, key=lambda name: (topic, name) not in TARGETS):
            target = TARGETS.get((topic, name))
            values = [model[topic][name] for model in figures.values()]
            cells = [f"{value:.3f}" if target is None or target.met(value) else f"**{value:.3f}**" for value in values]
            lines.append(f"| {topic} | {name} | {' | '.join(cells)} | {target or ''} |")
    lines += ["", f"{scenes} scenes for each figure (for each number of things in `detect`); one seed: a few hundredths mean nothing."]
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Examine the embedded models on scenes they have not seen.")
    parser.add_argument("--checkpoint", type=Path, help="examine this folder instead of the family")
    parser.add_argument("--enlarge", type=int, default=1, help="with --checkpoint: how many times larger its pictures are to be")
    parser.add_argument("--scenes", type=int, default=300, help="scenes for each figure")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--topics", nargs="+", choices=list(TOPICS), default=list(TOPICS), metavar="TOPIC", help=f"some of: {', '.join(TOPICS)}"
    )
    parser.add_argument("--output", type=Path, help="write evaluation.json and evaluation.md into this folder")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    began = time.monotonic()
    models = [(each.name, CHECKPOINTS / each.checkpoint, each.enlarge) for each in FAMILY]
    if asked.checkpoint:
        models = [(asked.checkpoint.name, asked.checkpoint, asked.enlarge)]
    figures = {}
    for name, folder, enlarge in models:
        checkpoint = Checkpoint(folder, enlarge)
        figures[name] = evaluate(Examination(checkpoint, asked.scenes, checkpoint.side), asked.topics)
    text = table(figures, asked.scenes)
    print(text)
    if asked.output:
        asked.output.mkdir(parents=True, exist_ok=True)
        versions = {name: version(name) for name in ("torch", "transformers", "tokenizers", "pillow")}
        record = {"scenes": asked.scenes, "seconds": round(time.monotonic() - began), "versions": versions, "figures": figures}
        (asked.output / "evaluation.json").write_text(json.dumps(record, indent=1) + "\n")
        (asked.output / "evaluation.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
