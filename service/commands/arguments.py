"""Arguments that several commands have."""

import argparse
import os
from pathlib import Path
from typing import TypeAlias

from service.settings import Settings, load_settings

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""Where a command adds itself."""


def add_config(parser: argparse.ArgumentParser) -> None:
    """``--config``, the same for every command that has it."""
    parser.add_argument("--config", type=Path, help="settings as TOML")


def settings_of(asked: argparse.Namespace) -> Settings:
    """Of the file, the environment and the flags. Errors: OperatorError."""
    flags = {name: getattr(asked, name, None) for name in ("host", "port", "grpc_port", "log_format")}
    return load_settings(asked.config, {name: value for name, value in flags.items() if value is not None}, os.environ)
