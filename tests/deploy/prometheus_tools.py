"""Debian's ``prometheus`` package, and the expressions of the files under deploy/observability."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "observability"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
RULES: list[dict[str, Any]] = [rule for group in yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"]: rule for rule in RULES if "record" in rule}
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES: dict[str, dict[str, Any]] = {each["name"]: each for each in DASHBOARD["templating"]["list"]}


def needed(program: str) -> str:
    """Where a program is. Where tests count, it must be there: see ``.ci/run``."""
    found = shutil.which(program)
    if found is None and not os.environ.get("CI"):
        pytest.skip(f"{program} is not installed")
    assert found, f"{program} is not installed"
    return found


def promtool(*arguments: object) -> str:
    """Run it; what it says. It must succeed."""
    done = subprocess.run([needed("promtool"), *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def with_variables(text: str, rate_interval: str = "5m") -> str:
    """As Grafana asks it, with everything chosen."""
    for name in VARIABLES:
        text = text.replace(f'"${name}"', '".*"')
    text = text.replace("$__rate_interval", rate_interval)
    assert "$" not in text, text
    return text


def panel_expressions(rate_interval: str = "5m") -> dict[str, str]:
    """By title and letter."""
    return {
        f"{panel['title']} {target['refId']}": with_variables(target["expr"], rate_interval)
        for panel in PANELS
        for target in panel["targets"]
    }


def label_queries() -> dict[str, tuple[str, str]]:
    """By the variable's name: the selector and the label whose values it offers."""
    found = {}
    for name, variable in VARIABLES.items():
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert asked, variable
            found[name] = (with_variables(asked[1]), asked[2])
    return found
