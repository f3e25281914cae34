"""The middle layers stay light: importing them must not pull in what only the outer layers may use."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "safetensors", "tokenizers", "fastapi", "starlette", "pydantic", "grpc")
LIGHT = ("service", "service.errors", "service.engine.engine", "service.tasks.tasks", "service.instances.catalogue", "service.main")


@pytest.mark.parametrize("module", LIGHT)
def test_a_fresh_interpreter_stays_light(module: str) -> None:
    allowed = {"pydantic"} if module == "service.main" else set()
    program = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert set(eval(output)) <= allowed
