"""Rival (c): bare ``generate()`` in fixed batches of 16, without a server. ``python -m load_tests.rivals.fixed_batches FOLDER PORT``.

It waits on a socket for a list of requests, so that it can take turns with the servers, and answers with texts and seconds.
"""

import json
import socket
import sys
import time
from typing import Any

from load_tests.rivals.padded import Padded

BATCH = 16


def serve(folder: str, port: int) -> None:
    """Answer one list of requests after the other."""
    padded = Padded(folder)
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("rw", encoding="utf-8") as stream:
                line = stream.readline()
                if line:
                    stream.write(json.dumps(answer(padded, json.loads(line))) + "\n")


def answer(padded: Padded, bodies: list[dict[str, Any]]) -> dict[str, Any]:
    """Texts, and the seconds that all took, decoding of the pictures included."""
    began = time.perf_counter()
    texts: list[str] = []
    for start in range(0, len(bodies), BATCH):
        texts += padded.answer([padded.read(body) for body in bodies[start : start + BATCH]])
    return {"texts": texts, "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
