"""A server labels, over HTTP."""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import httpcore2

from service import errors
from service.addresses import bearer, split_url
from service.errors import OperatorError
from service.labelling.labelled import Labelled, of_response
from service.labelling.prompt import LabelPrompt
from service.transports.rest.problems import TABLE

BY_CODE = {each.code: kind for kind, each in TABLE.items() if kind is not errors.MalformedBody} | {
    "request_timeout": errors.DeadlineExceeded
}
BY_STATUS: dict[int, type[errors.PaliServeError]] = {
    408: errors.DeadlineExceeded,
    413: errors.RequestTooLarge,
    429: errors.ModelNotReady,
    500: errors.GenerationFailed,
    502: errors.ModelNotReady,
    503: errors.ModelNotReady,
    504: errors.DeadlineExceeded,
}
"""What a proxy in front of it means, in its own words."""

LONGEST = 600.0
"""Seconds for one picture, its way there and back included."""

PAUSE = 2.0
"""Seconds after which to come back to a server that cannot be reached, or does not say when."""

SOON = 30.0
"""Seconds within which a server says what it has; and how much later than ``LONGEST`` it may say that a picture took longer."""

TIMEOUTS = {"connect": 10.0, "read": LONGEST + SOON, "write": LONGEST, "pool": LONGEST}


class RemoteLabeller:
    """A PaliServe at ``url``. ``key``: as ``Authorization``, where one is needed."""

    def __init__(self, url: str, key: str | None, model: str | None, prompt: LabelPrompt, concurrent: int) -> None:
        """Errors: OperatorError where the URL or the key is none."""
        parts = split_url(url, "--url")
        self._url = url.rstrip("/")
        self._model = model
        self._prompt = prompt
        self._concurrent = concurrent
        self._headers = [("Host", parts.netloc), ("Content-Type", "application/json"), ("User-Agent", "paliserve")]
        if key:
            self._headers.append(("Authorization", bearer(key)))
        self._pool: httpcore2.AsyncConnectionPool | None = None

    async def identity(self) -> Mapping[str, str]:
        """See ``Labeller``. The model is the one of that name, or the server's first, and is then asked for by its name."""
        async with self.opened():
            try:
                listed = (await self._told("GET", "/v1/models", None))["data"]
                found = next((each for each in listed if self._model in (None, each["id"])), None)
                if found is None:
                    raise OperatorError(f"--model {self._model}: {self._url} has {', '.join(each['id'] for each in listed)}.")
                self._model = found["id"]
                return {"model": found["id"], "source": found["source"], "dtype": found["dtype"]}
            except errors.PaliServeError as error:
                raise OperatorError(error.message) from None
            except (KeyError, TypeError):
                raise self._strange() from None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """See ``Labeller``."""
        async with httpcore2.AsyncConnectionPool(max_connections=self._concurrent) as self._pool:
            yield

    async def label(self, image: bytes) -> Labelled:
        """See ``Labeller``."""
        asked = {
            "image": base64.b64encode(image).decode(),
            "objects": self._prompt.names,
            "model": self._model,
            # What could not be read back, or has a name that nobody asked for, is not written.
            "strict": True,
            "timeout_ms": int(1000 * LONGEST),
        }
        told = await self._told("POST", f"/v1/{self._prompt.task}", json.dumps(asked).encode())
        try:
            return of_response(told)
        except (KeyError, TypeError):
            raise self._strange() from None

    async def _told(self, method: str, path: str, content: bytes | None) -> Any:
        """The JSON of an answer. Errors: PaliServeError, as the server met it; ModelNotReady where it cannot be reached; OperatorError."""
        if self._pool is None:
            raise errors.ModelNotReady(f"{self._url} is not opened.")
        timeouts = TIMEOUTS if content else TIMEOUTS | {"read": SOON}
        try:
            response = await self._pool.request(
                method, f"{self._url}{path}", headers=self._headers, content=content, extensions={"timeout": timeouts}
            )
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException) as error:
            raise errors.ModelNotReady(f"{self._url} cannot be reached: {str(error) or type(error).__name__}.", PAUSE) from None
        try:
            told = json.loads(response.content)
        except ValueError:
            told = None
        if response.status == HTTPStatus.OK and isinstance(told, dict):
            return told
        raise self._error(response, told if isinstance(told, dict) else {})

    def _error(self, response: httpcore2.Response, told: Mapping[str, Any]) -> Exception:
        """What the server met, in its own words."""
        message = str(told.get("detail") or f"{self._url} answers with status {response.status}.")
        wait = _retry_after(response)
        kind = BY_CODE.get(str(told.get("code"))) or BY_STATUS.get(response.status)
        if kind in (errors.Overloaded, errors.RateLimited, errors.ModelNotReady):
            return kind(message, wait)
        if kind is errors.InvalidRequest:
            problems = told.get("errors") or ()
            return errors.InvalidRequest(message, tuple(errors.FieldProblem(each["field"], each["problem"]) for each in problems))
        return self._strange(response.status) if kind is None else kind(message)

    def _strange(self, status: int = 200) -> OperatorError:
        return OperatorError(f"{self._url} does not answer as PaliServe does (status {status}): is the URL right?")


def _retry_after(response: httpcore2.Response) -> float:
    """Seconds; a date is not read."""
    value = next((value for name, value in response.headers if name.lower() == b"retry-after"), b"")
    return float(value) if value.isdigit() else PAUSE
