"""Users over REST: ``locust -f load_tests/locust/rest_users.py --class-picker`` has them in a browser; see the folder's README."""

import os
import time
from collections.abc import Iterator
from typing import Any

from locust import FastHttpUser, between, task

from load_tests.locust import ending
from load_tests.locust.scenarios import FIRST_TOKEN, Ask, HighResolution, MixedTasks, OneImage, Scenario, Streaming, result_of
from load_tests.locust.thresholds import REFUSED
from service.bench.figures import REFUSALS
from service.bench.http_connection import HttpServer
from service.bench.questions import FORM

KEY = os.environ.get("PALISERVE_KEY")
HEADERS = {"Content-Type": FORM} | ({"Authorization": f"Bearer {KEY}"} if KEY else {})
ending.listen()


class RestUser(Scenario, FastHttpUser):
    """Asks what its scenario says, and looks at each answer."""

    abstract = True
    host = "http://127.0.0.1:8000"
    wait_time = between(0.1, 0.5)
    _asks: Iterator[Ask]

    def on_start(self) -> None:
        """Of every user."""
        self._asks = self.asks()

    @task
    def ask(self) -> None:
        """One request."""
        following = next(self._asks)
        path, form = f"/v1/{following.question.task}", following.question.form(following.image)
        # Its hints know of words only.
        sending: Any = {"data": form, "headers": HEADERS, "name": following.name, "stream": self.streams}
        began = time.perf_counter()
        with self.client.post(path, catch_response=True, **sending) as response:
            content = self._whole(response, began) if self.streams else response.content or b""
            # Only a reply's head was waited for where it is a stream.
            response.request_meta |= {"response_time": 1000 * (time.perf_counter() - began), "response_length": len(content)}
            status, fields = HttpServer(0).read(response.status_code, content)
            if status in REFUSALS:
                response.failure(REFUSED)
            elif status != 200:
                response.failure(f"status {status}: {fields.get('detail', 'no answer')}")
            elif result_of(following.question.task, fields) is None:
                response.failure("the answer holds no result")

    def _whole(self, response: Any, began: float) -> bytes:
        if response.status_code != 200:
            return response.content or b""
        # Reading one byte waits for the first event and for no more.
        first = b"".join([next(response.iter_content(1, decode_content=False), b"")])
        self.environment.events.request.fire(
            request_type="POST", name=FIRST_TOKEN, response_time=1000 * (time.perf_counter() - began), response_length=0, exception=None,
            context={},
        )  # fmt: skip
        return first + b"".join(response.iter_content(decode_content=False))


class RestMixedTasks(MixedTasks, RestUser):
    """See ``MixedTasks``."""


class RestOneImage(OneImage, RestUser):
    """See ``OneImage``."""


class RestHighResolution(HighResolution, RestUser):
    """See ``HighResolution``."""


class RestStreaming(Streaming, RestUser):
    """See ``Streaming``."""
