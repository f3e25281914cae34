"""The command line: ``paliserve COMMAND``."""

import argparse
import sys
from collections.abc import Sequence

from service.commands import ask, bench, download, key, label, models, serve
from service.errors import InvalidRequest, OperatorError, PaliServeError
from service.observability import logs
from service.observability.version import package_version

COMMANDS = (serve, ask, label, models, download, bench, key)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 not done, 2 asked wrongly."""
    asked = parser().parse_args(arguments)
    # ``serve`` sets them as its settings say.
    logs.configure("console", "warning")
    try:
        status: int = asked.run(asked)
    except (OperatorError, PaliServeError) as error:
        fields = error.fields if isinstance(error, InvalidRequest) else ()
        said = " ".join([str(error), *(f"{each.field}: {each.problem}." for each in fields)])
        # One line, whatever a library told us in several.
        print("paliserve:", " ".join(said.split()), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def parser() -> argparse.ArgumentParser:
    """Of the whole command line."""
    made = argparse.ArgumentParser(prog="paliserve", description="Serves PaliGemma: captions, answers, boxes and masks as JSON.")
    made.add_argument("--version", action="version", version=f"paliserve {package_version()}")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    for each in COMMANDS:
        each.add(commands)
    return made


if __name__ == "__main__":
    sys.exit(main())
