"""``paliserve key``: make a key for a caller."""

import argparse
import sys

from service.access.keys import LIMITS, Key, Limits, Role, block, digest, new_key
from service.commands.arguments import Commands, examples


def add(commands: Commands) -> None:
    """The command and its arguments."""
    parser = commands.add_parser(
        "key",
        help="make a key for a caller",
        description="Make a key for a caller: its entry goes to standard output, for a file of keys, and the key is shown once.",
        epilog=examples("paliserve key team-a >> keys.toml", "paliserve key team-b --requests-per-minute 60 --concurrent 4 >> keys.toml"),
    )
    parser.add_argument("name", metavar="NAME", help="whose it is, for logs")
    parser.add_argument("--role", choices=[each.value for each in Role], default=Role.USER.value, help="admin: may load and unload (user)")
    for limit in LIMITS:
        parser.add_argument(f"--{limit.replace('_', '-')}", type=int, metavar="N", help="at most so many; left out, there is no limit")
    parser.set_defaults(run=_run)


def _run(asked: argparse.Namespace) -> int:
    """The entry to standard output, for a file; the key beside it, for whoever it is made for."""
    key = new_key()
    limits = Limits(**{name: getattr(asked, name) for name in LIMITS})
    print(f"\n{block(Key(asked.name, digest(key), Role(asked.role), limits))}")
    print(f"{key}  is the key of {asked.name}, and is shown this once", file=sys.stderr)
    return 0
