"""``paliserve serve``: answer requests over HTTP and gRPC."""

import argparse
import asyncio

from service.commands.arguments import Commands, add_config, examples, settings_of
from service.commands.loading import Loading
from service.observability import logs
from service.settings import print_config


def add(commands: Commands) -> None:
    """The command and its arguments."""
    parser = commands.add_parser(
        "serve",
        help="answer requests over HTTP and gRPC",
        description="Answer requests over HTTP and gRPC. Without settings, the embedded models are served, to this machine alone.",
        epilog=examples(
            "paliserve serve",
            "paliserve serve --config paliserve.toml --port 9000 --grpc-port 0",
            "PALISERVE_DEVICE=cpu paliserve serve --print-config",
        ),
    )
    add_config(parser)
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="HTTP port (8000)")
    parser.add_argument("--grpc-port", type=int, help="gRPC port (8001); 0: no gRPC")
    parser.add_argument("--log-format", choices=["console", "json"], help="lines for people, or objects (console)")
    parser.add_argument("--print-config", action="store_true", help="show the settings that result, and stop")
    parser.set_defaults(run=_run)


def _run(asked: argparse.Namespace) -> int:
    settings = settings_of(asked)
    if asked.print_config:
        print(print_config(settings))
        return 0
    logs.configure(settings.log_format, settings.log_level)
    with Loading(settings.log_format == "console") as loading:
        # The model libraries take seconds to import; only the commands that need them pay, and none to be told that a key is wrong.
        from service.listening import Doors  # noqa: PLC0415

        doors = Doors(settings)
        from service.serving import event_loop, serve  # noqa: PLC0415

        with asyncio.Runner(loop_factory=event_loop()) as runner:
            return runner.run(serve(settings, doors, loading))
