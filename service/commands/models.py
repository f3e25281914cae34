"""``paliserve models`` and ``paliserve plan``: what is configured, and what it takes."""

import argparse

from service.commands.arguments import Commands, add_config, examples, settings_of
from service.commands.output import print_table

COLOURS = {"not fetched": "yellow"}
"""Of cells."""


def add(commands: Commands) -> None:
    """The commands and their arguments."""
    models = commands.add_parser(
        "models", help="list what is configured", epilog=examples("paliserve models", "paliserve models --config paliserve.toml")
    )
    add_config(models)
    models.set_defaults(run=_models)
    plan = commands.add_parser(
        "plan",
        help="what the configured instances will take of memory, without loading them",
        epilog=examples("paliserve plan", "PALISERVE_WORKERS=1 paliserve plan --config paliserve.toml"),
    )
    add_config(plan)
    plan.set_defaults(run=_plan)


def _models(asked: argparse.Namespace) -> int:
    from service.planning import configured  # noqa: PLC0415

    print_table([("NAME", "RESOLUTION", "DTYPE", "DEVICE", "SOURCE"), *configured(settings_of(asked))], COLOURS)
    return 0


def _plan(asked: argparse.Namespace) -> int:
    from service.planning import table  # noqa: PLC0415

    print_table(table(settings_of(asked)), COLOURS)
    return 0
