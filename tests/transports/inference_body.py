"""A body of the Open Inference Protocol with bytes behind its JSON."""

import json
from typing import Any

from service.transports.inference.tensors import pack


def binary_body(images: list[bytes], prompts: list[bytes], **more: Any) -> tuple[bytes, int]:
    """The body, and the length of its JSON."""
    packed = [pack(images), pack(prompts)]
    made = [
        {"name": name, "datatype": "BYTES", "shape": [len(data)], "parameters": {"binary_data_size": len(part)}}
        for name, data, part in zip(("image", "prompt"), (images, prompts), packed, strict=True)
    ]
    head = json.dumps({"inputs": made} | more).encode()
    return head + b"".join(packed), len(head)
