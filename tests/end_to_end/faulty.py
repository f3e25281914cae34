"""``paliserve`` whose model fails as a file says, which ``FAULT`` names: "decode raises", "encode hangs", "prefill memory", "decode nan".

No file: no fault. What hangs goes on when the file is gone. For servers without worker processes.
"""

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from service.engine.runner import Sampled
from service.main import main
from service.model import paligemma, runner

FILE = Path(os.environ["FAULT"])
CALLS = ("encode", "prefill", "decode", "move")


def told(call: str) -> str:
    """What is to go wrong in a call."""
    try:
        asked, _, fault = FILE.read_text().partition(" ")
    except FileNotFoundError:
        return ""
    return fault if asked == call else ""


def around(call: str, work: Callable[..., Any], *arguments: Any) -> Any:
    """The call, or what is to happen instead."""
    match told(call):
        case "raises":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        case "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        case "hangs":
            while FILE.exists():
                time.sleep(0.01)
        case "nan":
            done = work(*arguments)
            return Sampled(done.tokens, [float("nan")] * len(done.tokens))
    return work(*arguments)


class Faulty(runner.PaliGemmaRunner):
    """Fails on demand."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for call in CALLS:
            setattr(self, call, partial(around, call, getattr(self, call)))


if __name__ == "__main__":
    wired: Any = paligemma
    wired.PaliGemmaRunner = Faulty
    sys.exit(main())
