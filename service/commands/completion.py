"""``paliserve completion``: what lets a shell complete commands, flags and files."""

import argparse

from service.commands.arguments import Commands, examples

SHELLS = ("bash", "zsh", "fish")


def add(commands: Commands) -> None:
    """The command and its arguments."""
    parser = commands.add_parser(
        "completion",
        help="print a script by which a shell completes commands, flags and files",
        description="Print a script by which a shell completes commands, flags and files. It runs nothing while you type.",
        epilog=examples(
            'eval "$(paliserve completion bash)"                              in ~/.bashrc',
            'eval "$(paliserve completion zsh)"                               in ~/.zshrc, below compinit',
            "paliserve completion fish > ~/.config/fish/completions/paliserve.fish",
        ),
    )
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(run=_run)


def _run(asked: argparse.Namespace) -> int:
    import shtab  # noqa: PLC0415

    print(shtab.complete(asked.whole, asked.shell))
    return 0
