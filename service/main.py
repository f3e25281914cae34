"""The command line: ``paliserve serve | ask | models | plan | download | key``."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.access.keys import LIMITS, Key, Limits, Role, block, digest, new_key
from service.errors import InvalidRequest, OperatorError, PaliServeError
from service.observability import logs
from service.observability.version import package_version
from service.settings import Settings, load_settings, print_config


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 not done, 2 asked wrongly."""
    asked = _parser().parse_args(arguments)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="paliserve", description="Serves PaliGemma: captions, answers, boxes and masks as JSON.")
    parser.add_argument("--version", action="version", version=f"paliserve {package_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="answer requests over HTTP and gRPC")
    serve.add_argument("--config", type=Path, help="settings as TOML")
    serve.add_argument("--host", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, help="HTTP port (8000)")
    serve.add_argument("--grpc-port", type=int, help="gRPC port (8001); 0: no gRPC")
    serve.add_argument("--log-format", choices=["console", "json"])
    serve.add_argument("--print-config", action="store_true", help="show the settings that result, and stop")
    serve.set_defaults(run=_serve)

    ask = commands.add_parser("ask", help="ask about one picture, in this process, without a server")
    ask.add_argument("image", type=Path)
    ask.add_argument("prompt", help='any prefix: "caption en", "detect red circle ; sign", "answer en what color is the star?"')
    ask.add_argument("--model", help="name of the instance")
    ask.add_argument("--save", type=Path, metavar="FILE", help="draw the boxes and masks into this picture")
    ask.add_argument("--json", action="store_true", help="print the whole response as JSON")
    ask.add_argument("--config", type=Path, help="settings as TOML")
    ask.set_defaults(run=_ask)

    plan = commands.add_parser("plan", help="what the configured instances will take of memory, without loading them")
    plan.add_argument("--config", type=Path, help="settings as TOML")
    plan.set_defaults(run=_plan)

    download = commands.add_parser("download", help="fetch checkpoints from the hub into its cache, and check their sums")
    download.add_argument("checkpoints", nargs="*", metavar="MODEL", help="hub id, such as google/paligemma-3b-mix-224")
    download.add_argument("--revision", help="such as bfloat16, float16, or a commit (main)")
    download.add_argument("--config", type=Path, help="settings as TOML: fetch all checkpoints and adapters of the hub that they name")
    download.set_defaults(run=_download)

    _add_key(commands)

    models = commands.add_parser("models", help="list what is configured")
    models.add_argument("--config", type=Path, help="settings as TOML")
    models.set_defaults(run=_models)
    return parser


def _add_key(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    key = commands.add_parser(
        "key", help="make a key for a caller: paliserve key NAME >> keys.toml appends its entry, and the key is shown once"
    )
    key.add_argument("name", metavar="NAME", help="whose it is, for logs")
    key.add_argument("--role", choices=[each.value for each in Role], default=Role.USER.value, help="admin: may load and unload (user)")
    for limit in LIMITS:
        key.add_argument(f"--{limit.replace('_', '-')}", type=int, metavar="N")
    key.set_defaults(run=_key)


def _settings(asked: argparse.Namespace) -> Settings:
    flags = {name: getattr(asked, name, None) for name in ("host", "port", "grpc_port", "log_format")}
    return load_settings(asked.config, {name: value for name, value in flags.items() if value is not None}, os.environ)


def _serve(asked: argparse.Namespace) -> int:
    settings = _settings(asked)
    if asked.print_config:
        print(print_config(settings))
        return 0
    logs.configure(settings.log_format, settings.log_level)
    # The model libraries take seconds to import; only the commands that need them pay, and none to be told that a key is wrong.
    from service.listening import Doors  # noqa: PLC0415

    doors = Doors(settings)
    from service.serving import event_loop, serve  # noqa: PLC0415

    with asyncio.Runner(loop_factory=event_loop()) as runner:
        return runner.run(serve(settings, doors))


def _ask(asked: argparse.Namespace) -> int:
    settings = _settings(asked)
    try:
        image = asked.image.read_bytes()
    except OSError as error:
        raise OperatorError(f"{asked.image}: {error.strerror or 'cannot be read'}.") from None
    from service.asking import ask  # noqa: PLC0415

    response = asyncio.run(ask(settings, image, asked.prompt, asked.model, asked.save))
    if asked.json:
        print(json.dumps(response, indent=2))
    else:
        _print_response(response)
    return 0


def _print_response(response: dict[str, Any]) -> None:
    """The text, or the boxes one a line where there are any."""
    found = [*response["detections"], *response["segments"]]
    if not found:
        print(response["text"])
    for each in found:
        box = each["box"]
        print(f"{each['label']}\t{box['x_min']:.0f} {box['y_min']:.0f} {box['x_max']:.0f} {box['y_max']:.0f}\t{each['score']:.2f}")


def _models(asked: argparse.Namespace) -> int:
    from service.planning import configured  # noqa: PLC0415

    _print_table([("NAME", "RESOLUTION", "DTYPE", "DEVICE", "SOURCE"), *configured(_settings(asked))])
    return 0


def _plan(asked: argparse.Namespace) -> int:
    from service.planning import table  # noqa: PLC0415

    _print_table(table(_settings(asked)))
    return 0


def _download(asked: argparse.Namespace) -> int:
    from service.model.hub import fetch, is_fetched, verify  # noqa: PLC0415

    if not asked.checkpoints and not asked.config:
        raise OperatorError("name a checkpoint, such as google/paligemma-3b-mix-224, or settings that do, with --config.")
    wanted = [(name, asked.revision) for name in asked.checkpoints]
    if asked.config:
        for instance in _settings(asked).instances:
            sources = [(instance.source, instance.revision), *((each.source, each.revision) for each in instance.adapters)]
            wanted += [(source, revision) for source, revision in sources if is_fetched(source)]
    for name, revision in dict.fromkeys(wanted):
        folder = fetch(name, revision)
        print(f"{name}: {folder} ({verify(folder)} checksums right)")
    if not wanted:
        print(f"{asked.config}: nothing of the hub is named")
    return 0


def _key(asked: argparse.Namespace) -> int:
    """The entry to standard output, for a file; the key beside it, for whoever it is made for."""
    key = new_key()
    limits = Limits(**{name: getattr(asked, name) for name in LIMITS})
    print(f"\n{block(Key(asked.name, digest(key), Role(asked.role), limits))}")
    print(f"{key}  is the key of {asked.name}, and is shown this once", file=sys.stderr)
    return 0


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
