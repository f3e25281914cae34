"""Prints a lock without torch and what only its CUDA builds need: for the image without CUDA, whose torch is of another index."""

import re
import sys
from pathlib import Path

CUDA = re.compile(r"(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==")


def without_cuda(lock: str) -> str:
    """Each requirement is a line and further ones, indented, with its hashes."""
    kept = []
    for line in lock.splitlines():
        if not line.startswith(" "):
            wanted = CUDA.match(line) is None
        if wanted:
            kept.append(line)
    return "\n".join(kept)


if __name__ == "__main__":
    print(without_cuda(Path(sys.argv[1]).read_text(encoding="utf-8")))
