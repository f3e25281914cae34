"""Rival "litserve": LitServe's dynamic batching, set up as its documentation shows, over a left-padded ``generate()``."""

import argparse
from typing import Any

import litserve

from load_tests.rivals.batched_generation import BatchedGeneration, Task, Written, decode_picture


class PaliGemmaApi(litserve.LitAPI):
    """The hooks in the order LitServe calls them."""

    def __init__(self, source: str, threads: int, max_batch_size: int, batch_timeout: float) -> None:
        super().__init__(max_batch_size=max_batch_size, batch_timeout=batch_timeout)
        self._source = source
        self._threads = threads

    def setup(self, device: str) -> None:
        """In the worker's process."""
        self._generation = BatchedGeneration(self._source, self._threads)

    def decode_request(self, request: dict[str, Any], **_: Any) -> Task:
        """From JSON."""
        return Task(decode_picture(request["image"]), request["prompt"], request["max_tokens"])

    def batch(self, inputs: list[Task]) -> tuple[Any, list[int]]:
        """Tensors and budgets."""
        return self._generation.inputs(inputs), [task.max_tokens for task in inputs]

    def predict(self, x: tuple[Any, list[int]], **_: Any) -> list[Written]:
        """The whole batch."""
        return self._generation.generate(*x)

    def unbatch(self, output: list[Written]) -> list[Written]:
        """It is a list already."""
        return output

    def encode_response(self, output: Written, **_: Any) -> dict[str, Any]:
        """As JSON."""
        return output.fields()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("port", type=int)
    parser.add_argument("threads", type=int)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--max-batch-size", type=int, default=16)
    parser.add_argument("--batch-timeout", type=float, default=0.01)
    asked = parser.parse_args()
    api = PaliGemmaApi(asked.source, asked.threads, asked.max_batch_size, asked.batch_timeout)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=asked.workers, timeout=False)
    server.run(host="127.0.0.1", port=asked.port, num_api_servers=1, generate_client_file=False, log_level="warning")
