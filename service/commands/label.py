"""``paliserve label``: boxes and masks of a folder of pictures, as COCO's JSON."""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Never

from tqdm import tqdm

from service.commands.arguments import Commands, add_config, settings_of
from service.commands.output import progress
from service.errors import OperatorError, PaliServeError
from service.observability.logs import escape

if TYPE_CHECKING:
    from service.labelling.labelling import Labeller
    from service.labelling.prompt import LabelPrompt

HERE, THERE = 64, 8
"""Pictures at once: as many as fill a model's batches, or as a server that others use may be asked for."""


def add(commands: Commands) -> None:
    """The command and its arguments."""
    parser = commands.add_parser(
        "label",
        help="label a folder of pictures: boxes and masks as COCO's JSON",
        description="Finds things in all pictures of a folder. Ended at any moment, the same command goes on from there.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("prompt", help='"detect cat ; dog" for boxes, "segment cat ; dog" for masks as well')
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="such as coco.json; FILE.journal beside it is what to go on from"
    )
    parser.add_argument("--model", help="name of the instance")
    parser.add_argument("--min-score", type=_share, default=0.0, metavar="S", help="leave out objects that are less sure, 0 to 1 (0)")
    parser.add_argument("--concurrent", type=_count, metavar="N", help=f"pictures at once ({HERE} here, {THERE} with --url)")
    parser.add_argument("--anew", action="store_true", help="forget what an earlier run wrote to --out")
    parser.add_argument("--url", help="ask a running server, such as http://127.0.0.1:8000, instead of loading the model here")
    parser.add_argument("--key", help="for that server; or PALISERVE_KEY")
    add_config(parser)
    parser.set_defaults(run=_run)


def _run(asked: argparse.Namespace) -> int:
    from service.labelling.prompt import parse_prompt  # noqa: PLC0415

    prompt = parse_prompt(asked.prompt)
    concurrent = asked.concurrent or (THERE if asked.url else HERE)
    labeller = _remote(asked, prompt, concurrent) if asked.url else _local(asked, prompt, concurrent)
    from service.labelling.labelling import Order, label_folder  # noqa: PLC0415

    order = Order(asked.folder, prompt, asked.out, concurrent, asked.min_score, asked.anew)
    shown = _Shown()
    try:
        outcome = asyncio.run(label_folder(order, labeller, shown))
    except KeyboardInterrupt:
        shown.close()
        print(f"paliserve: stopped: {shown.so_far() or 'nothing was begun.'}", file=sys.stderr)
        return 130
    except (OperatorError, PaliServeError):
        shown.close()
        if shown.done:
            print(shown.so_far(), file=sys.stderr)
        raise
    shown.close()
    skipped = f", {outcome.skipped} skipped" if outcome.skipped else ""
    print(f"{asked.out}: {outcome.pictures} pictures, {outcome.objects} objects{skipped}")
    return 1 if outcome.skipped else 0


def _local(asked: argparse.Namespace, prompt: "LabelPrompt", concurrent: int) -> "Labeller":
    if asked.key:
        raise OperatorError("--key is for a server: name it with --url.")
    settings = settings_of(asked)
    from service.labelling.local import LocalLabeller  # noqa: PLC0415

    return LocalLabeller(settings, asked.model, prompt, concurrent)


def _remote(asked: argparse.Namespace, prompt: "LabelPrompt", concurrent: int) -> "Labeller":
    if asked.config:
        raise OperatorError("--config is for a model here: the server at --url has its own.")
    from service.labelling.remote import RemoteLabeller  # noqa: PLC0415

    return RemoteLabeller(asked.url, asked.key or os.environ.get("PALISERVE_KEY"), asked.model, prompt, concurrent)


class _Shown:
    """Shows how it goes: a bar where there is a terminal, and what is skipped."""

    def __init__(self) -> None:
        self.pictures = 0
        self.done = 0
        self._bar: tqdm[Never] | None = None

    def began(self, pictures: int, done: int) -> None:
        """See ``Watcher``."""
        self.pictures, self.done = pictures, done
        self._bar = progress("labelling", pictures, "picture")
        # Those that were done before are no measure of the pace.
        self._bar.initial = self._bar.n = done

    def labelled(self) -> None:
        """See ``Watcher``."""
        self.done += 1
        self._step()

    def skipped(self, name: str, reason: str) -> None:
        """See ``Watcher``."""
        tqdm.write(escape(f"{name}: {reason}"), file=sys.stderr)
        self._step()

    def so_far(self) -> str:
        """What an ended run leaves; nothing where it had not begun."""
        told = f"{self.done} of {self.pictures} pictures are labelled; the same command goes on from there."
        return told if self.pictures else ""

    def close(self) -> None:
        """The bar is not drawn any more."""
        if self._bar is not None:
            self._bar.close()

    def _step(self) -> None:
        if self._bar is not None:
            self._bar.update()


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"0 to 1 is needed, got {text}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 1024:
        raise argparse.ArgumentTypeError(f"1 to 1024 is needed, got {text}")
    return value
