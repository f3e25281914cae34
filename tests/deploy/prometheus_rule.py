"""Prints the operator's PrometheusRule with the rules that everybody else loads as a file: ``python -m tests.deploy.prometheus_rule``."""

from textwrap import indent

from tests.deploy.rendering import DEPLOY

RULES = DEPLOY / "observability" / "rules.yaml"
WRITTEN = DEPLOY / "components" / "monitoring" / "prometheus-rule.yaml"
HEAD = """\
# Generated from deploy/observability/rules.yaml by `make generate`; change it there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: paliserve
spec:
"""


def prometheus_rule() -> str:
    return HEAD + indent(RULES.read_text(), "  ")


if __name__ == "__main__":
    print(prometheus_rule(), end="")
