"""One HTTP connection: uvicorn's, with an end to how long its client may take to send and to read."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

import h11
from starlette.responses import Response
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from service.errors import MalformedBody, PaliServeError
from service.transports.rest import problems
from service.transports.rest.framing import Framing
from service.transports.rest.receipts import RECEIPT, Receipt, Times
from service.transports.rest.refusals import SlowRequest

ANSWER_SECONDS = 5.0
"""Within which a handler must have answered a request that can never become whole."""


class Register(Protocol):
    """Who counts connections."""

    def enter(self, address: str) -> bool:
        """Whether one more is served."""
        ...

    def leave(self, address: str) -> None:
        """A connection that was served is gone."""
        ...

    def cut(self, reason: str) -> None:
        """A connection was not served, or ends early."""
        ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """``size``: bytes of the whole request that is refused, of which some may be still to come."""

    response: Response
    size: int


class Entrance(Protocol):
    """Who refuses requests before they are read."""

    def refusal(self, data: bytes, port: int | None) -> Refusal | None:
        """Of the request that begins with these bytes and came to that port; None: it is to be read."""
        ...


class TimedProtocol(H11Protocol):
    """Only one timer for each connection, which is set anew when it goes off: requests that come at once never touch it."""

    conn: Framing

    def __init__(
        self,
        register: Register,
        entrance: Entrance | None,
        times: Times,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._receipt = Receipt()
        super().__init__(config, server_state, {**app_state, RECEIPT: self._receipt}, _loop)
        self.conn = Framing()
        self._register = register
        self._entrance = entrance
        self._times = times
        self._served = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._receive_by: float | None = None
        self._read_by: float | None = None
        self._receiving: object = None
        self._received = 0
        self._skipping = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See ``asyncio.Protocol``."""
        super().connection_made(transport)
        self._served = self._register.enter(self._address)
        if self._served:
            self._receive_within(self._times.head)
        else:
            self._refuse(503, "There are too many connections: try again soon.")

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._served:
            self._served = False
            self._register.leave(self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        if self._receipt.problem is not None:
            return
        self._received += len(data)
        if self._skipping or self._entrance is not None:
            data = self._turned_away(data)
        if data:
            super().data_received(data)
        self._look()

    def _turned_away(self, data: bytes) -> bytes:
        """What is left of the bytes without those of requests that are refused here."""
        while data:
            if not self._skipping:
                refused = self._refused(data)
                if refused is None:
                    return data
                self._unset_keepalive_if_required()
                self.transport.write(_as_bytes(refused.response, self.server_state.default_headers))
                self.server_state.total_requests += 1
                self._skipping, self._received = refused.size, 0
                if refused.size > len(data):
                    self._receive_within(self._times.body)
            # What is not skipped is looked at anew: it begins another request.
            data, self._skipping = data[self._skipping :], max(0, self._skipping - len(data))
        return b""

    def _refused(self, data: bytes) -> Refusal | None:
        between = self.conn.their_state is self.conn.our_state is h11.IDLE and not self.conn.unread
        if self._entrance is None or not between or self.flow.write_paused or self.transport.is_closing():
            return None
        return self._entrance.refusal(data, self.server[1] if self.server else None)

    def on_response_complete(self) -> None:
        """See ``H11Protocol``."""
        super().on_response_complete()
        self._look()

    def timeout_keep_alive_handler(self) -> None:
        """See ``H11Protocol``."""
        super().timeout_keep_alive_handler()
        self._look()

    def pause_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        super().pause_writing()
        self._read_within(self._times.send)

    def resume_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        super().resume_writing()
        self._read_by = None
        if self.transport.is_closing():
            # The rest of the last answer is still to be read.
            self._look()

    def send_400_response(self, msg: str) -> None:
        """Called with what h11 refuses; ``msg`` is the same for all of it."""
        flaw = self.conn.flaw
        self._register.cut("malformed")
        detail = "This is not a request of HTTP/1.1 as it must be."
        self._give_up(MalformedBody(detail), flaw.error_status_hint if flaw else 400, detail)

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""

    def _look(self) -> None:
        """Where the request stands, and until when it must be further."""
        if self._receipt.problem is not None:
            return
        if self.transport.is_closing():
            self._receive_by = None
            if self._read_by is None and self.transport.get_write_buffer_size():
                self._read_within(self._times.send)
            return
        state = self.conn.their_state
        if self._skipping:
            return
        if state is h11.SEND_BODY:
            if self._receiving is not self.cycle:
                self._receiving, self._received = self.cycle, 0
                self._receive_within(self._times.body)
        elif state is h11.IDLE and self.conn.unread:
            if self._receive_by is None:
                self._receive_within(self._times.head)
        else:
            self._receive_by = None
            if state is h11.IDLE and self.timeout_keep_alive_task is None:
                # The rest of a body was skipped behind its answer: uvicorn waits without end for what comes next.
                self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _receive_within(self, seconds: float) -> None:
        self._receive_by = self.loop.time() + seconds
        self._wake_at(self._receive_by)

    def _read_within(self, seconds: float) -> None:
        self._read_by = self.loop.time() + seconds + self.transport.get_write_buffer_size() / self._times.rate
        self._wake_at(self._read_by)

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer_at = when
        self._timer = self.loop.call_at(when, self._woken)

    def _woken(self) -> None:
        self._timer = None
        now = self.loop.time()
        if self._read_by is not None and self._read_by <= now:
            self._register.cut("unread")
            self.transport.abort()
            return
        if self._receive_by is not None and self._receive_by <= now:
            self._late(now)
        due = [each for each in (self._read_by, self._receive_by) if each is not None]
        if due:
            self._wake_at(min(due))

    def _late(self, now: float) -> None:
        in_body = bool(self._skipping) or self.conn.their_state is h11.SEND_BODY
        if in_body and self._receipt.problem is None:
            more = self._received / self._times.rate
            self._received = 0
            # What is left unread by us is no fault of the client's.
            if more > 0.001 or self.flow.read_paused:
                self._receive_by = now + (self._times.body if self.flow.read_paused else more)
                return
        self._receive_by = None
        self._register.cut("late")
        if self._receipt.problem is not None:
            self.transport.abort()
        elif (in_body and not self._skipping) or self.conn.unread:
            self._give_up(SlowRequest("The request came too slowly: send a smaller picture."), 408, "The head came too slowly.")
        else:
            self.transport.close()

    def _give_up(self, problem: PaliServeError, status: int, detail: str) -> None:
        """End a request that will never be whole: by its handler, where it has one that waits for the body; else here."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._refuse(status, detail)
        elif cycle.response_started:
            self.transport.abort()
        else:
            self._receipt.problem = problem
            cycle.keep_alive = False
            cycle.message_event.set()
            self._receive_within(ANSWER_SECONDS)

    def _refuse(self, status: int, detail: str) -> None:
        """Answer without a handler, and close."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            told = problems.of_connection(status, detail)
            head = h11.Response(status_code=status, headers=told.raw_headers, reason=HTTPStatus(status).phrase)
            for event in (head, h11.Data(data=bytes(told.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self._look()


def _as_bytes(response: Response, more: Sequence[tuple[bytes, bytes]]) -> bytes:
    status = HTTPStatus(response.status_code)
    headers = b"".join(b"%s: %s\r\n" % header for header in (*more, *response.raw_headers))
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (status, status.phrase.encode(), headers, response.body)
