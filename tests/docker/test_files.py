"""What docker/ says, against what the service is. ``make image-check`` builds and runs it."""

import http.server
import json
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import PREFIX, Settings, load_settings

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICE = COMPOSE["services"]["paliserve"]
OBSERVABILITY = ROOT / "deploy" / "observability"


def instructions() -> list[tuple[str, str, str]]:
    """Of the Dockerfile: the stage's name, the instruction, its arguments on one line."""
    text = "\n".join(line for line in (DOCKER / "Dockerfile").read_text().splitlines() if not line.startswith("#"))
    found, stage = [], ""
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        if line.strip():
            keyword, _, arguments = line.partition(" ")
            stage = arguments.split(" AS ")[1] if keyword == "FROM" else stage
            found.append((stage, keyword, arguments))
    return found


INSTRUCTIONS = instructions()
STAGES = {stage: arguments.split(" AS ")[0] for stage, keyword, arguments in INSTRUCTIONS if keyword == "FROM"}
IMAGES = ("cpu", "cuda")


def told(stage: str, keyword: str) -> list[str]:
    """The arguments of one instruction, in a stage and the stages that it is made from."""
    below = told(STAGES[stage], keyword) if STAGES.get(stage) in STAGES else []
    return below + [arguments for where, found, arguments in INSTRUCTIONS if (where, found) == (stage, keyword)]


def variables(stage: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for arguments in told(stage, "ENV") for pair in shlex.split(arguments))


def test_the_base_is_one_argument_with_a_tag() -> None:
    assert INSTRUCTIONS[0][1:] == ("ARG", f"BASE={INSTRUCTIONS[0][2].partition('=')[2]}")
    assert re.fullmatch(r"BASE=python:3\.\d+-slim-\w+", INSTRUCTIONS[0][2])
    assert {base for base in STAGES.values() if base not in STAGES} == {"${BASE}"}
    assert list(STAGES)[-1] == "cpu", "the last stage is what is built where no target is named"


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_the_service_without_rights(image: str) -> None:
    assert told(image, "USER") == ["10001:10001"]
    assert json.loads(told(image, "ENTRYPOINT")[0]) + json.loads(told(image, "CMD")[0]) == ["paliserve", "serve"]
    assert told(image, "STOPSIGNAL") == ["SIGTERM"]
    assert told(image, "EXPOSE") == [f"{Settings().port} {Settings().grpc_port}"]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_labelled(image: str) -> None:
    arguments = dict(each.partition("=")[::2] for each in told(image, "ARG"))
    labels = dict(pair.split("=", 1) for pair in shlex.split(told(image, "LABEL")[0]))
    values = {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()}
    assert values.keys() == {"title", "description", "licenses", "version", "revision", "source"}
    assert values["licenses"] == PROJECT["license"]
    assert (values["version"], values["revision"], values["source"]) == ("${VERSION}", "${REVISION}", "${SOURCE}")
    assert arguments["VERSION"] == PROJECT["version"]


@pytest.mark.parametrize("image", IMAGES)
def test_only_what_was_built_comes_into_an_image(image: str) -> None:
    assert told(image, "COPY") == [
        f"--from=packages-{image} /opt/paliserve /opt/paliserve",
        "--from=application /opt/paliserve /opt/paliserve",
        f"--from=packages-{image} /build/paliserve.cdx.json /usr/share/sbom/",
    ]


def installing() -> list[str]:
    """The commands that install packages."""
    runs = [arguments for _, keyword, arguments in INSTRUCTIONS if keyword == "RUN"]
    return [part for run in runs for part in run.split(" && ") if part.startswith("pip ") and " install " in part]


def test_threat_66_every_version_is_an_exact_one_and_every_file_a_known_one() -> None:
    """But for torch without CUDA, which is alone on its index, and the tools, none of which comes into an image."""
    assert len(installing()) == 5
    for command in installing():
        assert "--no-cache-dir" in command
        hashed = re.search(r"--no-deps --require-hashes -r requirements(-cpu)?\.lock$", command)
        assert hashed or "-c constraints.txt" in command or command.endswith("--no-deps dist/*.whl"), command
    assert len([command for command in installing() if "--require-hashes" in command]) == len(IMAGES)
    assert f"cyclonedx-bom=={CONSTRAINTS['cyclonedx-bom']}" in installing()[0]
    assert {"setuptools", "torch", "torchao", "triton", "cuda-bindings", "grpcio"} <= CONSTRAINTS.keys()


@pytest.mark.parametrize("image", IMAGES)
def test_threat_66_an_image_lists_what_is_in_it(image: str) -> None:
    (made,) = (run for run in told(f"packages-{image}", "RUN") if "cyclonedx-py environment" in run)
    assert "--output-file paliserve.cdx.json /opt/paliserve/bin/python" in made


def test_the_image_without_cuda_installs_all_but_torch_and_its_libraries() -> None:
    command = [sys.executable, "docker/requirements.py", "docker/requirements.lock"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    kept, lock = set(lines), set((DOCKER / "requirements.lock").read_text().splitlines())
    gone = {re.split("==", line)[0] for line in lock - kept if "==" in line}
    assert gone == {name for name in CONSTRAINTS if re.match("(torch|triton)$|nvidia-|cuda-", name)}
    assert {"torchao", "fastapi", "transformers"} <= {line.partition("==")[0] for line in kept}


@pytest.mark.parametrize("environment", [*map(variables, IMAGES), SERVICE["environment"]], ids=[*IMAGES, "compose"])
def test_variables_are_settings(environment: dict[str, str]) -> None:
    assert any(name.startswith(PREFIX) for name in environment)
    load_settings(None, {}, environment)


class Answer(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing to tell."""


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server that answers ``/readyz`` so; yields its port."""
    handler = type("Answering", (Answer,), {"status": status})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


HEALTH_CHECK = json.loads(told("cpu", "HEALTHCHECK")[0].partition("CMD ")[2])


def checked(port: int) -> int:
    environment = {"PALISERVE_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    return subprocess.run([sys.executable, *HEALTH_CHECK[1:]], env=environment, stderr=subprocess.DEVNULL, check=False).returncode


@pytest.mark.parametrize(("status", "exit_status"), [(200, 0), (503, 1)])
def test_the_health_check_asks_whether_the_service_is_ready(status: int, exit_status: int) -> None:
    """On the port that is set, and not through a proxy."""
    with answering(status) as port:
        assert checked(port) == exit_status


def test_the_health_check_fails_where_nobody_listens() -> None:
    with answering(200) as port:
        pass
    assert checked(port) == 1


def test_compose_checks_health_as_the_image_does() -> None:
    options = dict(re.findall(r"--([\w-]+)=(\S+)", told("cpu", "HEALTHCHECK")[0].partition("CMD ")[0]))
    assert SERVICE["healthcheck"]["test"] == ["CMD", *HEALTH_CHECK]
    assert {name: str(SERVICE["healthcheck"][name.replace("-", "_")]) for name in options} == options


def test_compose_confines_the_service() -> None:
    assert (SERVICE["read_only"], SERVICE["cap_drop"], SERVICE["security_opt"]) == (True, ["ALL"], ["no-new-privileges:true"])
    assert SERVICE["tmpfs"][0].startswith("/tmp:")
    assert [volume.split(":")[1] for volume in SERVICE["volumes"]] == [variables("cpu")["HF_HOME"]]
    assert SERVICE["build"]["target"] in STAGES
    assert (DOCKER / SERVICE["build"]["context"] / SERVICE["build"]["dockerfile"]).samefile(DOCKER / "Dockerfile")
    assert int(SERVICE["stop_grace_period"].removesuffix("s")) > Settings().default_timeout_seconds


def test_compose_publishes_on_this_machine_alone() -> None:
    published = [port for each in COMPOSE["services"].values() for port in each["ports"]]
    assert {f"127.0.0.1:{port}:{port}" for port in (Settings().port, Settings().grpc_port)} <= set(published)
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_compose_names_versions() -> None:
    for name, each in COMPOSE["services"].items():
        assert "build" in each or re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", each["image"]), name


def mounts(service: str) -> dict[str, Path]:
    """Of files of this repository: where they are in the container, and here."""
    pairs = [volume.split(":")[:2] for volume in COMPOSE["services"][service]["volumes"]]
    return {inside: (DOCKER / here).resolve() for here, inside in pairs if here.startswith(".")}


def test_prometheus_scrapes_the_service_by_the_rules() -> None:
    mounted = mounts("prometheus")
    configuration = yaml.safe_load(mounted["/etc/prometheus/prometheus.yml"].read_text())
    job = next(each for each in configuration["scrape_configs"] if each["job_name"] == "paliserve")
    assert job["static_configs"][0]["targets"] == [f"paliserve:{Settings().port}"]
    for name in configuration["rule_files"]:
        assert mounted[f"/etc/prometheus/{name}"].is_file()


def test_grafana_is_provisioned_with_the_dashboard() -> None:
    mounted = mounts("grafana")
    provider = yaml.safe_load((OBSERVABILITY / "grafana/provisioning/dashboards/paliserve.yaml").read_text())["providers"][0]
    source = yaml.safe_load((OBSERVABILITY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"][0]
    assert mounted["/etc/grafana/provisioning"] == OBSERVABILITY / "grafana" / "provisioning"
    assert json.loads(mounted[f"{provider['options']['path']}/dashboard.json"].read_text())["title"]
    assert source["url"] == "http://prometheus:9090"


def let_in(path: str) -> bool:
    """Whether .dockerignore lets a file into the build: the last pattern that fits it, or a folder above it, decides."""
    inside = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = (
                re.escape(line.lstrip("!")).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*").replace(r"\[", "[").replace(r"\]", "]")
            )
            if re.fullmatch(f"{pattern}(?:/.*)?", path):
                inside = line.startswith("!")
    return inside


KEPT_OUT = """
    .git/HEAD .venv/bin/python .env paliserve.toml tests/conftest.py load_tests/results/figures.json deploy/observability/rules.yaml
    build/image/x shared/DESIGN.md service/__pycache__/main.cpython-311.pyc service/engine/__pycache__/x.pyc service/x.pyo
"""


@pytest.mark.parametrize("path", KEPT_OUT.split())
def test_the_build_does_not_see(path: str) -> None:
    assert not let_in(path)


def test_the_build_sees_what_is_packaged_and_copied() -> None:
    listed = subprocess.run(["git", "ls-files", "service"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    copied = [arguments.split()[:-1] for _, keyword, arguments in INSTRUCTIONS if keyword == "COPY" and "--from" not in arguments]
    sources = [source for each in copied for source in each]
    assert {"service", "pyproject.toml", "constraints.txt", PROJECT["readme"], *PROJECT["license-files"]} <= set(sources)
    assert [path for path in [*listed, *sources] if not let_in(path)] == []


def test_the_readme_names_all_arguments() -> None:
    arguments = {arguments.partition("=")[0] for _, keyword, arguments in INSTRUCTIONS if keyword == "ARG"}
    section = (DOCKER / "README.md").read_text().partition("\n## Build\n")[2].partition("\n## ")[0]
    table = re.findall(r"^\| (`[A-Z].*?) \|", section, re.MULTILINE)
    named = {name for row in table for name in re.findall(r"`([A-Z_]+)`", row)}
    assert named == arguments
