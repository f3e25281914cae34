"""``paliserve models`` and ``paliserve plan``: what is configured, and what it takes."""

import argparse

from service.commands.arguments import Commands, add_config, settings_of
from service.commands.output import print_table


def add(commands: Commands) -> None:
    """The commands and their arguments."""
    plan = commands.add_parser("plan", help="what the configured instances will take of memory, without loading them")
    add_config(plan)
    plan.set_defaults(run=_plan)
    models = commands.add_parser("models", help="list what is configured")
    add_config(models)
    models.set_defaults(run=_models)


def _models(asked: argparse.Namespace) -> int:
    from service.planning import configured  # noqa: PLC0415

    print_table([("NAME", "RESOLUTION", "DTYPE", "DEVICE", "SOURCE"), *configured(settings_of(asked))])
    return 0


def _plan(asked: argparse.Namespace) -> int:
    from service.planning import table  # noqa: PLC0415

    print_table(table(settings_of(asked)))
    return 0
