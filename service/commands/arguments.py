"""Arguments that several commands have, and how a command takes them."""

import argparse
import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from service.settings import Settings, load_settings

Commands: TypeAlias = "argparse._SubParsersAction[CommandParser]"
"""Where a command adds itself."""


class CommandParser(argparse.ArgumentParser):
    """Of one command. Options may stand before, between and behind the other arguments, and examples keep their lines.

    An option that is not known is told with the nearest one that is.
    """

    def __init__(self, **settings: Any) -> None:
        self._flags: list[str] = []
        self._is_mixing = False
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, **settings})

    def add_argument(self, *names: str, **settings: Any) -> argparse.Action:
        """See ``ArgumentParser``."""
        self._flags += [each for each in names if each.startswith("--")]
        return super().add_argument(*names, **settings)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override]
        """See ``ArgumentParser``, which by itself takes ``ask one.png two.png --json PROMPT`` for one picture and a prompt too many."""
        # In some versions of Python, the one that mixes calls this one.
        if self._is_mixing:
            return super().parse_known_args(args, namespace)
        self._is_mixing = True
        try:
            found, rest = self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_mixing = False
        if rest:
            near = difflib.get_close_matches(rest[0].partition("=")[0], self._flags, n=1)
            self.error(f"{rest[0]} is not known here" + (f"; did you mean {near[0]}?" if near else "."))
        return found, rest


def examples(*lines: str) -> str:
    """What stands below a command's help: a line for each way to call it."""
    return "\n".join(["examples:", *(f"  {line}" for line in lines)])


def is_file(action: argparse.Action) -> argparse.Action:
    """The shell completes this argument with names of files: see ``completion``."""
    action.complete = "file"  # type: ignore[attr-defined]
    return action


def add_config(parser: argparse.ArgumentParser) -> None:
    """``--config``, the same for every command that has it."""
    is_file(parser.add_argument("--config", type=Path, metavar="FILE", help="settings as TOML"))


def settings_of(asked: argparse.Namespace) -> Settings:
    """Of the file, the environment and the flags. Errors: OperatorError."""
    flags = {name: getattr(asked, name, None) for name in ("host", "port", "grpc_port", "log_format")}
    return load_settings(asked.config, {name: value for name, value in flags.items() if value is not None}, os.environ)
