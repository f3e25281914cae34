"""Writes the tests into SECURITY.md's table: ``python -m tests.security_table > SECURITY.md``."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
DOCUMENT = TESTS.parent / "SECURITY.md"
ROW = re.compile(r"^\| *(\d+) \| (.*?) \| (.*?) \| (.*?) \|$")
NAME = re.compile(r"test_threat_(\d\d(?:_and_\d\d)*)_[a-z0-9_]+")


def threat_tests() -> dict[int, list[str]]:
    """For each number, ``file::test`` of those that are named after it."""
    found: dict[int, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (named := NAME.fullmatch(node.name)):
                for number in named[1].split("_and_"):
                    found.setdefault(int(number), []).append(f"{path.relative_to(TESTS)}::{node.name}")
    return found


def rows(document: str) -> list[tuple[int, str, str, str]]:
    """Number, attack, defence and tests of each row."""
    found = [ROW.match(line) for line in document.splitlines()]
    return [(int(row[1]), row[2], row[3], row[4]) for row in found if row]


def written(document: str) -> str:
    """The same with the tests that are there. A row without any keeps what stands in their place: why there are none."""
    tests, lines = threat_tests(), []
    for line in document.splitlines():
        row = ROW.match(line)
        named = "<br>".join(f"`{each}`" for each in tests.get(int(row[1]), [])) if row else ""
        lines.append(f"| {row[1]} | {row[2]} | {row[3]} | {named} |" if row and named else line)
    return "\n".join(lines)


if __name__ == "__main__":
    print(written(DOCUMENT.read_text(encoding="utf-8")))
