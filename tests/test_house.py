"""Rules of the house that no other tool checks."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [path for path in (ROOT / "service").rglob("*.py") if "_pb2" not in path.name]
VAGUE = {"utils", "helpers", "common", "core", "base", "manager", "misc"}
MOST_LINES, MOST_FUNCTION_LINES, MOST_PARAMETERS = 280, 45, 6


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.mark.parametrize("path", FILES, ids=names(FILES))
def test_files_are_named_for_their_noun_and_stay_readable(path: Path) -> None:
    assert path.stem not in VAGUE
    assert len(path.read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", FILES, ids=names(FILES))
def test_functions_are_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not any(
            isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) for inner in ast.walk(node) if inner is not node
        ):
            assert (node.end_lineno or node.lineno) - node.lineno < MOST_FUNCTION_LINES, node.name
            parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            assert len([each for each in parameters if each.arg != "self"]) <= MOST_PARAMETERS + 1, node.name


PACKAGES = [path for path in FILES if path.name == "__init__.py"]


@pytest.mark.parametrize("path", PACKAGES, ids=names(PACKAGES))
def test_packages_hold_a_docstring_and_nothing_else(path: Path) -> None:
    body = ast.parse(path.read_text()).body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)


def test_assert_checks_no_input() -> None:
    """``python -O`` takes them out (threat 60)."""
    for path in FILES:
        asserts = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]
        assert not asserts or "demo" in path.parts, path


def test_threat_01_nobody_touches_the_bomb_limit() -> None:
    assert not [path for path in FILES if "MAX_IMAGE_PIXELS" in path.read_text()]
