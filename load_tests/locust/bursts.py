"""Bursts over REST: many come at once, and go again."""

from typing import Any, ClassVar

from locust import LoadTestShape, constant

from load_tests.locust.rest_users import RestUser
from load_tests.locust.scenarios import MixedTasks
from load_tests.locust.thresholds import Thresholds
from service.bench.plan import TASKS

CALM, BURST = 2, 150
"""Users."""

PERIOD = 4.0
"""Seconds; the first half of each is a burst."""


class RestBursts(MixedTasks, RestUser):
    """Mixed tasks of users who do not wait. In a burst a full server refuses, and does nothing worse."""

    wait_time = constant(0)
    thresholds: ClassVar[Thresholds] = Thresholds(entries=TASKS, refusals=0.95)


class Bursts(LoadTestShape):
    """Burst and calm in turn, until the run's time is over."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """How many users, and how many of them come or go a second."""
        now: float = self.get_run_time()  # type: ignore[no-untyped-call]
        options: Any = self.runner.environment.parsed_options if self.runner else None
        if options and options.run_time and now > options.run_time:
            return None
        return (BURST if now % PERIOD < PERIOD / 2 else CALM), float(BURST)
