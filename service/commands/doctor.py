"""``paliserve doctor``: what is wrong here, and how to mend it."""

import argparse
import json
import os
import warnings
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

from service.commands.arguments import Commands, add_config, examples
from service.commands.output import coloured
from service.observability import logs

if TYPE_CHECKING:
    from service.doctor.findings import Finding

COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


def add(commands: Commands) -> None:
    """The command and its arguments."""
    parser = commands.add_parser(
        "doctor",
        help="say what is wrong here, and how to mend it",
        description="Look at libraries, settings, devices, models, memory, ports, keys and certificates: what is wrong, and how to "
        "mend it. The exit status is 1 where there is a problem.",
        epilog=examples("paliserve doctor", "paliserve doctor --config paliserve.toml", "paliserve doctor --json"),
    )
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="print all findings as one JSON object")
    parser.set_defaults(run=_run)


def _run(asked: argparse.Namespace) -> int:
    from service.doctor.examination import examine  # noqa: PLC0415

    # What is wrong is said by the findings.
    logs.configure("console", "critical")
    warnings.simplefilter("ignore")
    found = []
    for each in examine(asked.config, os.environ):
        found.append(each)
        if not asked.json:
            _print(each)
    counts = Counter(each.level.value for each in found)
    if asked.json:
        counted = {"problems": counts["problem"], "warnings": counts["warning"]}
        print(json.dumps({**counted, "findings": [asdict(each) for each in found]}, indent=2))
    else:
        print(_sum(counts["problem"], counts["warning"]))
    return 1 if counts["problem"] else 0


def _print(finding: "Finding") -> None:
    """What it says, and below it what to do."""
    level = coloured(finding.level.ljust(7), COLOURS[finding.level])
    print(f"{level}  {finding.about:<9}  {' '.join(finding.said.split())}", flush=True)
    if finding.mend:
        print(f"{'':18}  {coloured('→ ' + finding.mend, 'bold')}", flush=True)


def _sum(problems: int, warned: int) -> str:
    counted = [f"{count} {name}{'s' if count > 1 else ''}" for count, name in ((problems, "problem"), (warned, "warning")) if count]
    return " and ".join(counted) + "." if counted else "All is as it should be."
