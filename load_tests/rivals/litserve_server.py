"""Rival (b): LitServe with its batching over padded ``generate()``. ``python -m load_tests.rivals.litserve_server FOLDER PORT``."""

import sys
from typing import Any

import litserve
from PIL import Image

from load_tests.rivals.padded import Padded

BATCH = 16
TIMEOUT = 0.01


class PaddedApi(litserve.LitAPI):  # type: ignore[misc]
    """Up to 16 requests, or what came within 10 ms, at once."""

    def setup(self, device: str) -> None:
        self._padded = Padded(sys.argv[1])

    def decode_request(self, request: dict[str, Any]) -> tuple[Image.Image, str, int]:
        return self._padded.read(request)

    def batch(self, inputs: list[tuple[Image.Image, str, int]]) -> list[tuple[Image.Image, str, int]]:
        return inputs

    def predict(self, x: list[tuple[Image.Image, str, int]]) -> list[str]:
        return self._padded.answer(x)

    def unbatch(self, output: list[str]) -> list[str]:
        return output

    def encode_response(self, output: str) -> dict[str, str]:
        return {"text": output}


if __name__ == "__main__":
    api = PaddedApi(max_batch_size=BATCH, batch_timeout=TIMEOUT)
    litserve.LitServer(api, accelerator="cpu", timeout=600).run(port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
