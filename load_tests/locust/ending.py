"""What happens when a run of locust ends."""

import sys
from typing import Any

from locust import events

from load_tests.locust.thresholds import check


def listen() -> None:
    """Let the run's exit status say whether the thresholds held, and a line each say which did not."""

    def end(environment: Any, **_: Any) -> None:
        broken = check(environment.stats, environment.user_classes, environment.runner.exceptions.values() if environment.runner else ())
        for line in broken:
            print(f"threshold: {line}", file=sys.stderr)
        environment.process_exit_code = 1 if broken else 0

    events.quitting.add_listener(end)  # type: ignore[no-untyped-call]
