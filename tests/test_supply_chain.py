"""What is installed, and what the code of strangers could come in by."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest
from google.protobuf.internal import api_implementation
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INSTALLED: dict[str, Distribution] = {canonicalize_name(each.name): each for each in distributions()}
LEAST = {"pillow": "12.3", "python-multipart": "0.0.31", "starlette": "1.3.1", "h11": "0.16", "protobuf": "6.33.5"}
"""Older ones have holes that this service would have: see SECURITY.md."""

SERVED_WITH = ("quantization", "tracing")
"""Extras that the images have."""


def pinned(path: Path) -> dict[str, str]:
    lines = re.findall(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)", path.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in lines}


def needed(requirements: list[str], extras: frozenset[str] = frozenset()) -> Iterator[str]:
    """Names of what these requirements need here, and what those need in turn."""
    for text in requirements:
        wanted = Requirement(text)
        if wanted.marker and not any(wanted.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            continue
        name = canonicalize_name(wanted.name)
        yield name
        if name in INSTALLED:
            yield from closure(name, frozenset(wanted.extras))


seen: dict[tuple[str, frozenset[str]], set[str]] = {}


def closure(name: str, extras: frozenset[str]) -> set[str]:
    """Memorised, and so without end nowhere."""
    if (name, extras) not in seen:
        seen[name, extras] = set()
        seen[name, extras] = set(needed(INSTALLED[name].requires or [], extras))
    return seen[name, extras]


RUNTIME = sorted(
    {*needed([*PROJECT["dependencies"], *(each for extra in SERVED_WITH for each in PROJECT["optional-dependencies"][extra])])}
)
CONSTRAINTS = pinned(ROOT / "constraints.txt")
LOCK = ROOT / "docker" / "requirements.lock"


def test_threat_66_every_installed_package_is_the_pinned_one() -> None:
    assert len(RUNTIME) > 40
    loose = {name for name in RUNTIME if name in INSTALLED} - CONSTRAINTS.keys()
    assert not loose
    # A build for one machine has a local part: 2.13.0+cpu.
    found = {name: INSTALLED[name].version.partition("+")[0] for name in RUNTIME if name in INSTALLED}
    assert found == {name: CONSTRAINTS[name] for name in found}


def test_threat_66_what_the_images_install_is_pinned_and_known_by_hashes() -> None:
    locked = pinned(LOCK)
    assert locked == {name: CONSTRAINTS[name] for name in locked}
    assert {name for name in RUNTIME if name in INSTALLED} <= locked.keys()
    for requirement in re.split(r"\n(?=\S)", LOCK.read_text().strip()):
        assert re.fullmatch(r"\S+==\S+( ; .+?)?( \\\n    --hash=sha256:[0-9a-f]{64})+", requirement), requirement[:100]


@pytest.mark.parametrize("name", LEAST)
def test_threat_66_no_version_with_a_known_hole(name: str) -> None:
    asked = next(Requirement(each) for each in PROJECT["dependencies"] if canonicalize_name(Requirement(each).name) == name)
    (least,) = (each.version for each in asked.specifier if each.operator == ">=")
    assert Version(INSTALLED[name].version) >= Version(least) >= Version(LEAST[name])


def test_threat_28_protobuf_reads_with_its_bounded_reader() -> None:
    """The one in Python has no limit of nesting: CVE-2025-4565."""
    assert api_implementation.Type() == "upb"


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


FILES = [path for path in sorted((ROOT / "service").rglob("*.py")) if "_pb2" not in path.name and "demo" not in path.parts]
FORBIDDEN_MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "yaml",
    "subprocess",
    "runpy",
    "code",
    "jinja2",
}
FORBIDDEN_CALLS = re.compile(
    r"(torch\.load|eval|exec|compile|__import__|os\.(system|popen|exec\w*|spawn\w*)|importlib\.import_module|np\.load|numpy\.load)"
)
JSON_FORMAT = "google.protobuf.json_format"


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_threat_61_and_62_nothing_that_is_read_can_run(path: Path) -> None:
    """No pickle but the one in multiprocessing's pipes, which are between our own processes and have no name that others could open.

    And no program but this Python, which decodes pictures.
    """
    tree = ast.parse(path.read_text())
    imported = {each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    forbidden = FORBIDDEN_MODULES - ({"subprocess"} if path.name == "image_worker_link.py" else set())
    assert not {name for name in imported if name.partition(".")[0] in forbidden or name == JSON_FORMAT}
    for name, call in calls(tree):
        if FORBIDDEN_CALLS.fullmatch(name):
            pickled = [ast.unparse(each.value) for each in call.keywords if each.arg == "allow_pickle"]
            assert (name, pickled) == ("np.load", ["False"]), f"line {call.lineno}"
        trusted = [ast.unparse(each.value) for each in call.keywords if each.arg in ("trust_remote_code", "shell")]
        assert set(trusted) <= {"False"}, f"{name}, line {call.lineno}"


def test_threat_61_what_serves_imports_nothing_that_trained_the_embedded_models() -> None:
    """Training keeps its own unfinished work in torch's format."""
    program = "import service.serving, sys; print(*(name for name in sys.modules if name.startswith('service.demo')))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert set(done.stdout.split()) <= {"service.demo", "service.demo.family", "service.demo.asking"}


UNDER_OPTIMISATION = """
    tests/model/test_images.py tests/model/test_prompt_encoder.py tests/model/test_weight_files.py tests/tasks/test_prompts.py
    tests/test_fetching.py tests/transports/rest/test_bodies.py tests/transports/inference/test_tensors.py
""".split()
"""What is refused before it does harm, and needs no server."""


def test_threat_60_what_is_refused_is_refused_without_asserts() -> None:
    """``python -O`` takes assert statements out of the service. pytest still checks those of its own tests, which it rewrites."""
    wanted = "(threat_01 or threat_10 or threat_14 or threat_27 or threat_35 or threat_36 or threat_37 or threat_61 or refused) and not any"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-W", "ignore", "-k", wanted, *UNDER_OPTIMISATION]
    optimised = os.environ | {"PYTHONOPTIMIZE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=optimised, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "passed" in done.stdout
