"""``python -m service.demo.evaluate``: what the embedded model gets right on scenes it has not seen, beside what was aimed at."""

import argparse
import json
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from tqdm import tqdm

from service.demo.asking import Checkpoint
from service.demo.figures import TOPICS, Examination, Figures

SHIPPED = Path(__file__).parent / "checkpoints" / "shapes-224"


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


def table(figures: dict[str, Figures], scenes: int) -> str:
    """Markdown: targets first within each topic."""
    lines = ["| task | figure | reached | target | met |", "|---|---|---|---|---|"]
    for topic, reached in figures.items():
        ordered = sorted(reached.items(), key=lambda item: (topic, item[0]) not in TARGETS)
        for name, value in ordered:
            target = TARGETS.get((topic, name))
            aim = f"{target} | {'yes' if target.met(value) else '**no**'}" if target else "|"
            lines.append(f"| {topic} | {name} | {value:.3f} | {aim} |")
    lines += ["", f"{scenes} scenes for each figure (for each number of things in `detect`); one seed: a few hundredths mean nothing."]
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Examine the embedded model on scenes it has not seen.")
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED)
    parser.add_argument("--scenes", type=int, default=300, help="scenes for each figure")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--topics", nargs="+", choices=list(TOPICS), default=list(TOPICS), metavar="TOPIC", help=f"some of: {', '.join(TOPICS)}"
    )
    parser.add_argument("--output", type=Path, help="write evaluation.json and evaluation.md into this folder")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    began = time.monotonic()
    figures = evaluate(Examination(Checkpoint(asked.checkpoint), asked.scenes), asked.topics)
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
