"""Every document: its links lead somewhere, its commands and settings are taken."""

import re
import shlex
from pathlib import Path

import pytest

from service.main import parser
from service.settings import load_settings

ROOT = Path(__file__).parents[1]
FOLDERS = ("service", "protos", "docker", "deploy", "tests", "load_tests")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(found for folder in FOLDERS for found in (ROOT / folder).rglob("*.md"))])
LINKS = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def anchors(document: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(each.relative_to(ROOT)) for each in DOCUMENTS])
def test_links_lead_somewhere(document: Path) -> None:
    found = [one or other for one, other in LINKS.findall(CODE.sub("", document.read_text()))]
    lost = []
    for link in found:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert not lost


def test_there_are_documents_with_links() -> None:
    assert {"README.md", "SECURITY.md", "CHANGELOG.md"} <= {each.name for each in DOCUMENTS}
    assert LINKS.search((ROOT / "README.md").read_text())


def shell(text: str) -> list[str]:
    """Commands of all its blocks, each in one line, without their comments."""
    found = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    return [re.sub(r"\s+#.*", "", line).strip() for line in found.splitlines()]


COMMANDS = sorted(
    {line for each in DOCUMENTS for line in shell(each.read_text()) if re.match(r"([A-Z_]+=\S+ )?(\.venv/bin/)?paliserve ", line)}
)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_paliserve_are_taken(command: str) -> None:
    words = shlex.split(re.split(r"\s(?:>>?|\|)\s", command)[0])
    program = next(place for place, word in enumerate(words) if word.endswith("paliserve"))
    commands, _ = parser()
    # It ends the process where it does not understand.
    assert commands.parse_args(words[program + 1 :]).run


def test_targets_of_make_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for each in DOCUMENTS:
        named = set(re.findall(r"(?:`|^ *)make ([a-z][a-z-]*[a-z])", each.read_text(), re.MULTILINE))
        assert named <= targets, each


@pytest.mark.parametrize("name", ["README.md", "service/README.md"])
def test_settings_are_taken(name: str, tmp_path: Path) -> None:
    found = re.findall(r"```toml\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    instances = [each for each in found if "[[instances]]" in each]
    assert instances
    for each in instances:
        (tmp_path / "paliserve.toml").write_text(each)
        assert load_settings(tmp_path / "paliserve.toml", {}, {}).instances
