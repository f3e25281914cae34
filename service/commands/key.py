"""``paliserve key``: make a key for a caller."""

import argparse
import sys

from service.access.keys import LIMITS, Key, Limits, Role, block, digest, new_key
from service.commands.arguments import Commands


def add(commands: Commands) -> None:
    """The command and its arguments."""
    parser = commands.add_parser(
        "key", help="make a key for a caller: paliserve key NAME >> keys.toml appends its entry, and the key is shown once"
    )
    parser.add_argument("name", metavar="NAME", help="whose it is, for logs")
    parser.add_argument("--role", choices=[each.value for each in Role], default=Role.USER.value, help="admin: may load and unload (user)")
    for limit in LIMITS:
        parser.add_argument(f"--{limit.replace('_', '-')}", type=int, metavar="N")
    parser.set_defaults(run=_run)


def _run(asked: argparse.Namespace) -> int:
    """The entry to standard output, for a file; the key beside it, for whoever it is made for."""
    key = new_key()
    limits = Limits(**{name: getattr(asked, name) for name in LIMITS})
    print(f"\n{block(Key(asked.name, digest(key), Role(asked.role), limits))}")
    print(f"{key}  is the key of {asked.name}, and is shown this once", file=sys.stderr)
    return 0
