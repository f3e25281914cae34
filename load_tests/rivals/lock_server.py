"""Rival (a): FastAPI and ``generate()`` behind a lock, one request at a time. ``python -m load_tests.rivals.lock_server FOLDER PORT``."""

import sys
import threading
from typing import Any

import uvicorn
from fastapi import FastAPI

from load_tests.rivals.padded import Padded


def create(folder: str) -> FastAPI:
    """The application."""
    application, padded, lock = FastAPI(), Padded(folder), threading.Lock()

    @application.post("/predict")
    def predict(body: dict[str, Any]) -> dict[str, str]:
        asked = padded.read(body)
        with lock:
            return {"text": padded.answer([asked])[0]}

    @application.get("/health")
    def health() -> str:
        return "ok"

    return application


if __name__ == "__main__":
    uvicorn.run(create(sys.argv[1]), port=int(sys.argv[2]), log_level="warning")
