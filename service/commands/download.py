"""``paliserve download``: fetch checkpoints from the hub."""

import argparse
from pathlib import Path

from service.commands.arguments import Commands, examples, is_file, settings_of
from service.commands.output import coloured
from service.errors import OperatorError


def add(commands: Commands) -> None:
    """The command and its arguments."""
    parser = commands.add_parser(
        "download",
        help="fetch checkpoints from the hub into its cache, and check their sums",
        description="Fetch checkpoints from the hub into its cache, and check their sums. What is there is not fetched again.",
        epilog=examples(
            "paliserve download google/paligemma-3b-mix-448 --revision bfloat16",
            "paliserve download --config paliserve.toml     all that is named there",
            "HF_TOKEN=hf_… paliserve download google/paligemma2-3b-pt-224",
        ),
    )
    parser.add_argument("checkpoints", nargs="*", metavar="MODEL", help="hub id, such as google/paligemma-3b-mix-224")
    parser.add_argument("--revision", help="such as bfloat16, float16, or a commit (main)")
    told = "settings as TOML: fetch all checkpoints and adapters of the hub that they name"
    is_file(parser.add_argument("--config", type=Path, metavar="FILE", help=told))
    parser.set_defaults(run=_run)


def _run(asked: argparse.Namespace) -> int:
    from service.model.hub import fetch, is_fetched, verify  # noqa: PLC0415

    if not asked.checkpoints and not asked.config:
        raise OperatorError("name a checkpoint, such as google/paligemma-3b-mix-224, or settings that do, with --config.")
    wanted = [(name, asked.revision) for name in asked.checkpoints]
    if asked.config:
        for instance in settings_of(asked).instances:
            sources = [(instance.source, instance.revision), *((each.source, each.revision) for each in instance.adapters)]
            wanted += [(source, revision) for source, revision in sources if is_fetched(source)]
    for name, revision in dict.fromkeys(wanted):
        folder = fetch(name, revision)
        print(f"{name}: {folder} ({coloured(f'{verify(folder)} checksums right', 'green')})", flush=True)
    if not wanted:
        print(f"{asked.config}: nothing of the hub is named")
    return 0
