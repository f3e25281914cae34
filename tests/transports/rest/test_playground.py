"""The playground's files: which there are, how they are served, and where."""

import re
import tomllib
from pathlib import Path

import httpx
import pytest

from service.access.gate import Gate
from service.tasks.prompts import LANGUAGES, MAX_OBJECTS
from service.transports.offers import OFFERS
from service.transports.rest.guard import Access, Offered
from service.transports.rest.playground.files import FILES, PATHS, SAMPLES, STATIC
from tests.transports.rest.service_fake import KEYS, Rest, problem

MOST_LINES = 280
MARKUP = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|setHTML|srcdoc|javascript:")
SCRIPTS = sorted(STATIC.glob("*.js"))


def script(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def directives(response: httpx.Response) -> dict[str, str]:
    pairs = (each.strip().partition(" ") for each in response.headers["content-security-policy"].split(";"))
    return {name: value for name, _, value in pairs}


def test_the_table_is_the_folder() -> None:
    assert {name for name, (folder, _) in FILES.items() if folder == STATIC} == {each.name for each in STATIC.iterdir()} - {"index.html"}
    assert all((SAMPLES / name).is_file() for name, (folder, _) in FILES.items() if folder == SAMPLES)


def test_the_package_carries_them() -> None:
    root = Path(__file__).parents[3]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["service"]
    carried = {path for pattern in patterns for path in (root / "service").glob(pattern)}
    assert {STATIC / "index.html", *(folder / name for name, (folder, _) in FILES.items())} <= carried
    assert not [path for path in carried if path.parent.name == "screenshots"]


@pytest.mark.parametrize("path", sorted(PATHS))
def test_a_file_is_kept_and_asked_about_each_time(rest: Rest, path: str) -> None:
    first = rest.get(path)
    assert first.status_code == 200
    assert first.headers["cache-control"] == "no-cache"
    assert first.headers["x-content-type-options"] == "nosniff"
    etag = first.headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = rest.get(path, headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert rest.get(path, headers={"if-none-match": '"other"'}).content == first.content


def test_the_page_says_what_it_may_do(rest: Rest) -> None:
    for path in PATHS:
        response = rest.get(path)
        policy = directives(response)
        assert policy["default-src"] == "'none'"
        assert {policy[name] for name in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert "camera=(self)" in response.headers["permissions-policy"]
        assert "set-cookie" not in response.headers


def test_the_page_is_told_what_there_is(rest: Rest) -> None:
    rest.serve(Access(), Offered(docs=True, grpc_port=9001))
    assert '<body data-grpc-port="9001" data-docs="docs">' in rest.get("/").text
    rest.serve(Access(), Offered(docs=False))
    assert '<body data-grpc-port="0" data-docs="">' in rest.get("/").text
    problem(rest.get("/docs"), 404, "not_found")


def test_the_docs_and_their_scripts_never_see_the_tab_with_the_key(rest: Rest) -> None:
    assert "https://" in rest.get("/docs").text
    (link,) = re.findall(r"<a[^>]* href=.docs.[^>]*>", rest.get("/").text)
    assert 'target="_blank" rel="noopener"' in link


def test_it_is_where_the_tasks_are(rest: Rest) -> None:
    rest.serve(Access(), Offered(upkeep=False))
    assert "<title>PaliServe playground</title>" in rest.get("/").text
    rest.serve(Access(), Offered(tasks=False))
    assert rest.get("/").headers["location"] == "/docs"
    problem(rest.get("/playground/main.js"), 404, "not_found")


def test_it_can_be_left_out(rest: Rest) -> None:
    rest.serve(Access(), Offered(playground=False))
    assert (rest.get("/").status_code, rest.get("/").headers["location"]) == (307, "/docs")
    problem(rest.get("/playground/main.js"), 404, "not_found")
    rest.serve(Access(), Offered(playground=False, docs=False))
    problem(rest.get("/"), 404, "not_found")


def test_its_files_need_no_key_and_its_data_do(rest: Rest) -> None:
    rest.serve(Access(Gate(lambda: KEYS, anonymous=False, lenient=False)))
    assert all(rest.get(path).status_code == 200 for path in PATHS)
    problem(rest.get("/v1/models"), 401, "unauthenticated")
    problem(rest.get("/playground/other.js"), 401, "unauthenticated")


OTHER_NAMES = (
    "/ /index.html /found.png /..%2ffiles.py /../files.py /%2e%2e/files.py /static/main.js //etc/passwd /main.js/ /main.js%00 "
    "/..%5cfiles.py /MAIN.JS /__init__.py"
).split()


@pytest.mark.parametrize("name", ["", *OTHER_NAMES])
def test_threat_30_no_other_name_leads_to_a_file(rest: Rest, name: str) -> None:
    problem(rest.get(f"http://test/playground{name}"), 404, "not_found")


@pytest.mark.parametrize("path", ["/", "/playground/main.js", "/playground/scene.png"])
def test_threat_30_ranges_of_its_files_are_ignored(rest: Rest, path: str) -> None:
    ranges = "bytes=" + ",".join(f"{number}-{number}" for number in range(5_000))
    response = rest.get(path, headers={"range": ranges, "if-range": "*"})
    assert (response.status_code, response.content) == (200, rest.get(path).content)


def test_threat_30_files_are_read_once(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*arguments: object, **named: object) -> bytes:
        raise AssertionError("a file was read")

    for name in ("open", "read_bytes", "read_text", "stat"):
        monkeypatch.setattr(Path, name, forbidden)
    assert all(rest.get(path).status_code == 200 for path in PATHS)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_threat_31_no_script_makes_markup_of_text(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not MARKUP.search(text)
    assert len(text.splitlines()) <= MOST_LINES


def test_threat_31_the_page_holds_no_script_and_no_style_of_its_own() -> None:
    page = script("index.html")
    assert re.findall(r"<script[^>]*>", page) == ['<script type="module" src="playground/main.js">']
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|https?://|src=\"//", page)
    assert not re.search(r"@import|url\(", script("style.css"))
    for path in SCRIPTS:
        assert not re.search(r"https?://|from \"[^.]|await import\(", path.read_text(encoding="utf-8")), path.name


def test_it_knows_the_tasks_and_their_limits() -> None:
    tasks = script("tasks.js")
    assert set(re.findall(r'^  "?([a-z-]+)"?: \{$', tasks, re.MULTILINE)) == set(OFFERS)
    form = script("form.js")
    found = re.search(r'"([a-z ]+)"\n\)\.split', form)
    assert found
    assert set(found[1].split()) == LANGUAGES
    assert f"const MOST_OBJECTS = {MAX_OBJECTS};" in form
