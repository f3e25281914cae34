"""How a benchmark's figures are kept: a JSON file and a Markdown table beside it."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.machine import description

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("paliserve", "torch", "transformers", "numpy", "pillow")


def spread(values: Sequence[float]) -> str:
    """Median, and from the least to the most."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def write(name: str, title: str, command: str, rows: Sequence[tuple[str, str]], figures: dict[str, Any]) -> None:
    """Write ``results/NAME.json`` and ``results/NAME.md`` with one table, and print it."""
    publish(name, f"# {title}\n\n{table(('figure', 'median (least–most)'), rows)}", command, figures)


def publish(
    name: str, text: str, command: str, figures: dict[str, Any], packages: Sequence[str] = PACKAGES, made: str = "Measured"
) -> None:
    """Write ``results/NAME.json`` and ``results/NAME.md``, whose last line says how and where it was ``made``; print the latter."""
    about = description(packages)
    versions = ", ".join(f"{package} {number}" for package, number in about["versions"].items())
    where = f"{about['processor']}, {about['cores']} cores, Python {about['python']}, {versions}; {about['measured']}"
    whole = f"{text}\n\n{made} by `{command}` on {where}.\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(whole)
    (RESULTS / f"{name}.json").write_text(json.dumps({"command": command, "machine": about, **figures}, indent=1) + "\n")
    print(whole)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))
