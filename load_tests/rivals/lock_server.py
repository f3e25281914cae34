"""Rival "lock", what people write first: FastAPI, and ``generate()`` for one request at a time behind a lock."""

import argparse
import threading
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from load_tests.rivals.batched_generation import BatchedGeneration, Task, decode_picture


class Body(BaseModel):
    """A request."""

    image: str
    prompt: str
    max_tokens: int


def create_application(generation: BatchedGeneration) -> FastAPI:
    """Pictures are decoded beside one another, in FastAPI's threads; the model runs for one."""
    application = FastAPI()
    lock = threading.Lock()

    @application.post("/predict")
    def predict(body: Body) -> dict[str, Any]:
        inputs = generation.inputs([Task(decode_picture(body.image), body.prompt, body.max_tokens)])
        with lock:
            return generation.generate(inputs, [body.max_tokens])[0].fields()

    @application.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    return application


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("port", type=int)
    parser.add_argument("threads", type=int)
    asked = parser.parse_args()
    uvicorn.run(create_application(BatchedGeneration(asked.source, asked.threads)), port=asked.port, log_level="warning")
