"""SECURITY.md's table, against the tests that are there."""

import re

import pytest

from tests.security_table import DOCUMENT, NAME, TESTS, rows, threat_tests, written

TEXT = DOCUMENT.read_text(encoding="utf-8")
ROWS = rows(TEXT)


def test_all_threats_are_there_in_order() -> None:
    assert [number for number, *_ in ROWS] == list(range(1, 67))


@pytest.mark.parametrize(("number", "attack", "defence", "tests"), ROWS)
def test_each_threat_has_a_defence_and_its_tests_or_a_reason(number: int, attack: str, defence: str, tests: str) -> None:
    assert min(map(len, (attack, defence))) > 5
    named = re.findall(r"`([^`]+)`", tests)
    assert named == threat_tests().get(number, [])
    assert named or len(tests.split()) > 5, "neither a test nor a sentence that tells why there is none"


def test_tests_are_named_so_that_they_are_found() -> None:
    for path in sorted(TESTS.rglob("test_*.py")):
        for name in re.findall(r"^(?:async )?def (test_threat_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert NAME.fullmatch(name), f"{path}: {name}"


def test_the_table_is_as_it_would_be_written() -> None:
    assert written(TEXT) == TEXT.rstrip("\n"), "make generate writes it"
