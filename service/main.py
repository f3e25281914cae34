"""The command line: ``paliserve COMMAND``."""

import argparse
import difflib
import errno
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from service.commands import ask, bench, completion, doctor, download, key, label, models, serve
from service.commands.arguments import CommandParser, examples
from service.commands.output import coloured
from service.errors import InvalidRequest, OperatorError, PaliServeError
from service.observability import logs
from service.observability.version import package_version

COMMANDS = (serve, ask, label, models, download, bench, key, doctor, completion)
"""As ``paliserve --help`` lists them."""

UNWRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Why standard output takes no more."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 not done, 2 asked wrongly."""
    _prepare_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    made, names = parser()
    _check_command(made, given, names)
    asked = made.parse_args(given)
    # ``serve`` sets them as its settings say.
    logs.configure("console", "warning")
    try:
        status: int = asked.run(asked)
        # What nobody reads any more shows here, not when Python ends.
        sys.stdout.flush()
    except (OperatorError, PaliServeError) as error:
        fields = error.fields if isinstance(error, InvalidRequest) else ()
        said = " ".join([str(error), *(f"{each.field}: {each.problem}." for each in fields)])
        # One line, whatever a library told us in several.
        print(coloured("paliserve:", "red", sys.stderr), " ".join(said.split()), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # As of ``paliserve models | head -1``.
        _drop_output()
        return 1
    except OSError as error:
        if error.errno not in UNWRITTEN:
            raise
        _drop_output()
        print(coloured("paliserve:", "red", sys.stderr), f"standard output: {error.strerror}.", file=sys.stderr)
        return 1
    return status


def parser() -> tuple[argparse.ArgumentParser, list[str]]:
    """Of the whole command line, and the names of its commands."""
    made = argparse.ArgumentParser(
        prog="paliserve",
        description="Serves PaliGemma: captions, answers, boxes and masks as JSON.",
        epilog=examples(
            "paliserve serve                         the embedded models, on http://127.0.0.1:8000",
            "paliserve ask photo.jpg 'detect cat'    without a server",
            "paliserve doctor                        what is wrong here, and how to mend it",
            "paliserve COMMAND --help                what a command takes",
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"paliserve {package_version()}")
    commands = made.add_subparsers(required=True, title="commands", metavar="COMMAND", parser_class=CommandParser)
    for each in COMMANDS:
        each.add(commands)
    # One of them is about all of them.
    made.set_defaults(whole=made)
    return made, list(commands.choices)


def _check_command(made: argparse.ArgumentParser, given: Sequence[str], names: Sequence[str]) -> None:
    """Ends with what was probably meant, where a command is not known."""
    name = next((each for each in given if not each.startswith("-")), None)
    if name is None or name in names:
        return
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    made.error(f"there is no command {name!r}; " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}."))


def _prepare_streams() -> None:
    """No command ends for a stream that is closed, nor for what it cannot write, such as the name of a file from another system."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (open until the process ends)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Python would write what is left when it ends, and tell of it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
