"""``paliserve bench``: load against a running server, and what became of it."""

import argparse
import asyncio
import json
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.bench.plan import TASKS, Plan
from service.commands.arguments import Commands
from service.commands.output import coloured, print_table, progress
from service.errors import OperatorError

if TYPE_CHECKING:
    from service.bench.benchmark import Benchmark, Outcome
    from service.bench.questions import Question
    from service.bench.target import Target

URL = "http://127.0.0.1:8000"
KEY = "PALISERVE_KEY"


def add(commands: Commands) -> None:
    """The command and its arguments."""
    parser = commands.add_parser("bench", help="put load on a running server: latencies and answers by rate, as a table, JSON and a plot")
    whom = parser.add_argument_group("whom")
    address = whom.add_mutually_exclusive_group()
    address.add_argument("--url", default=URL, help=f"over REST ({URL})")
    address.add_argument("--grpc", metavar="HOST:PORT", help="over gRPC; https://HOST:PORT for TLS")
    whom.add_argument("--key", help=f"of a server that wants one (${KEY})")
    whom.add_argument("--ca", type=Path, metavar="FILE", help="certificates of whom to trust, for https (those of the system)")
    what = parser.add_argument_group("what")
    what.add_argument(
        "--task", nargs="+", choices=TASKS, default=[], metavar="TASK", help=f"{', '.join(TASKS)}, in turn (all; with --prompt generate)"
    )
    what.add_argument(
        "--prompt", metavar="WORDS", help="a question; names with ; between; X_MIN Y_MIN X_MAX Y_MAX in pixels; or any prefix"
    )
    what.add_argument("--image", nargs="+", default=[], metavar="FILE", help="files, globs or folders (a picture that is embedded)")
    what.add_argument("--cached", action="store_true", help="let the server's cache know the pictures; else each comes as a new file")
    what.add_argument("--model", help="name of the instance that is asked (the server's choice)")
    what.add_argument("--resolution", choices=["224", "448", "896", "auto"])
    what.add_argument("--max-tokens", type=int, metavar="N")
    what.add_argument("--stream", action="store_true", help="answers as streams: also the time to the first token, and between tokens")
    much = parser.add_argument_group("how much")
    much.add_argument("--rate", nargs="+", type=float, default=[], metavar="R", help="requests a second (parts of the capacity)")
    much.add_argument("--duration", type=float, default=10.0, metavar="S", help="seconds at each rate (10)")
    much.add_argument(
        "--timeout", type=float, default=30.0, metavar="S", help="seconds after which a request is given up, which the server is told (30)"
    )
    much.add_argument("--concurrency", type=int, default=32, metavar="N", help="requests at once while the capacity is found (32)")
    much.add_argument("--seed", type=int, default=0, help="of the arrivals (0)")
    then = parser.add_argument_group("what of it")
    then.add_argument("--json", type=Path, metavar="FILE", help="all figures")
    then.add_argument("--plot", type=Path, metavar="FILE", help="a picture, .png, .svg or .pdf; needs paliserve[plot]")
    then.add_argument("--max-p99", type=float, metavar="MS", help="exit status 1 where a load's p99 is more")
    then.add_argument("--max-errors", type=float, metavar="RATIO", help="exit status 1 where more than this share is refused or fails")
    parser.set_defaults(run=_run)


def _run(asked: argparse.Namespace) -> int:
    from service.bench.benchmark import Benchmark  # noqa: PLC0415
    from service.bench.report import remarks, rows  # noqa: PLC0415
    from service.bench.thresholds import Thresholds  # noqa: PLC0415

    plan, target, questions = _plan(asked), _target(asked), _questions(asked)
    _check_files(asked)
    with progress("bench", plan.whole, "s") as bar:
        # Seconds by the second would say nothing.
        bar.bar_format = "{desc} {percentage:3.0f}% {bar} {elapsed} < {remaining}{postfix}"

        def watch(seconds: float, doing: str) -> None:
            bar.set_postfix_str(doing, refresh=False)
            bar.update(seconds - bar.n)

        outcome = _measure(Benchmark(target, questions, plan, watch))
    if outcome.loads:
        print_table(rows(outcome, asked.stream))
    for line in remarks(outcome, plan.seconds):
        print(coloured(line, "faint"))
    _write(asked, outcome, target.address)
    if outcome.interrupted:
        return 130
    broken = list(Thresholds(asked.max_p99, asked.max_errors).broken_by(outcome.loads))
    for line in broken:
        print(coloured(f"paliserve: {line}.", "red", sys.stderr), file=sys.stderr)
    return 1 if broken else 0


def _measure(benchmark: "Benchmark") -> "Outcome":
    """Ctrl-C ends it with what was found so far; a second one ends it at once."""
    with asyncio.Runner() as runner:
        return runner.run(benchmark.run())


def _plan(asked: argparse.Namespace) -> Plan:
    for flag in ("duration", "timeout", "concurrency", "rate", "max_p99"):
        given = getattr(asked, flag)
        for value in given if isinstance(given, list) else [given]:
            if value is not None and not 0 < value < math.inf:
                raise OperatorError(f"--{flag.replace('_', '-')} {value:g}: a number above 0 is needed.")
    if asked.max_errors is not None and not 0 <= asked.max_errors <= 1:
        raise OperatorError(f"--max-errors {asked.max_errors:g}: a share from 0 to 1 is needed.")
    return Plan(tuple(asked.rate), asked.duration, asked.timeout, asked.concurrency, asked.seed, asked.cached)


def _target(asked: argparse.Namespace) -> "Target":
    from service.bench.target import over_grpc, over_rest  # noqa: PLC0415

    key = asked.key or os.environ.get(KEY) or None
    return over_grpc(asked.grpc, key, asked.ca) if asked.grpc else over_rest(asked.url, key, asked.ca)


def _questions(asked: argparse.Namespace) -> "list[Question]":
    from service.bench.pictures import read_pictures, sample_pictures  # noqa: PLC0415
    from service.bench.questions import questions  # noqa: PLC0415

    options: dict[str, Any] = {name: getattr(asked, name) for name in ("model", "resolution", "max_tokens") if getattr(asked, name)}
    # So the server may refuse at once what it could not answer in time.
    options["timeout_ms"] = round(1000 * asked.timeout)
    if asked.stream:
        options["stream"] = "true"
    pictures = read_pictures(asked.image) if asked.image else sample_pictures()
    return questions(asked.task, asked.prompt, options, pictures)


def _check_files(asked: argparse.Namespace) -> None:
    """Nobody is to learn after minutes that nothing can be written."""
    for flag, path in (("--json", asked.json), ("--plot", asked.plot)):
        if path and not path.parent.is_dir():
            raise OperatorError(f"{flag} {path}: there is no folder {path.parent}.")
        if path and path.is_dir():
            raise OperatorError(f"{flag} {path}: this is a folder: name a file.")
    if asked.plot:
        from service.bench.plot import check  # noqa: PLC0415

        check(asked.plot)


def _write(asked: argparse.Namespace, outcome: "Outcome", address: str) -> None:
    from service.bench.plot import draw  # noqa: PLC0415
    from service.bench.report import document  # noqa: PLC0415

    # A key does not belong into a file.
    arguments = {name: value for name, value in vars(asked).items() if name not in ("run", "key", "whole")}
    told = {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()}
    try:
        if asked.json:
            asked.json.write_text(json.dumps(document(outcome, told, address), indent=1) + "\n")
        if asked.plot and any(load.sent for load in outcome.loads):
            draw(outcome, f"{address}: {', '.join(asked.task) or ('generate' if asked.prompt else 'seven tasks in turn')}", asked.plot)
    except OSError as error:
        raise OperatorError(f"{error.filename or asked.json}: {error.strerror}.") from None
