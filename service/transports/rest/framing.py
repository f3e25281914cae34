"""How requests are framed as HTTP/1.1: h11, and what it lets through that costs too much or could be read in two ways."""

import h11
from h11._receivebuffer import ReceiveBuffer

LARGEST_HEAD = 65_536
"""Bytes of a request's line and headers; also of a chunk's line and of trailers."""

MOST_LINES = 128
"""Of a head, and of trailers. h11 takes microseconds for each: 60 kB of nothing but short ones took 40 ms, and as trailers 90 ms."""

MOST_CHUNKS = 1024
"""Of a body, beside one for each ``BYTES_A_CHUNK`` of it: a chunk of one byte takes 16 µs."""

BYTES_A_CHUNK = 1024
FOLDED = (b" ", b"\t")
VERSIONS = frozenset({b"1.0", b"1.1"})


class _Lines(ReceiveBuffer):
    """h11's buffer. It looks at the lines of heads and trailers before h11 makes headers of them."""

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """See ``ReceiveBuffer``. Errors: RemoteProtocolError."""
        before = len(self)
        lines = super().maybe_extract_lines()
        if not lines:
            return lines
        extracted = before - len(self)
        if len(lines) > MOST_LINES:
            raise _flaw(f"At most {MOST_LINES - 1} headers are taken.", 431)
        if extracted > LARGEST_HEAD:
            raise _flaw(f"The headers have more than {LARGEST_HEAD} bytes.", 431)
        expected = 2
        for line in lines:
            expected += len(line) + 2
            if line.startswith(FOLDED):
                raise _flaw("A header must stand in one line.")
        # Where a proxy and we disagree about the end of a line, one request can be taken for two.
        if extracted != expected:
            raise _flaw("Lines must end with CR and LF.")
        return lines


class Framing(h11.Connection):
    """One connection's requests. ``flaw`` is what was wrong with the last of them."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, LARGEST_HEAD)
        self._receive_buffer = _Lines()
        self.flaw: h11.RemoteProtocolError | None = None
        self._chunks = 0
        self._in_chunks = 0

    @property
    def unread(self) -> int:
        """Bytes of which no whole event could be made yet."""
        return len(self._receive_buffer)

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """See ``h11.Connection``. Errors: RemoteProtocolError."""
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                self._check_request(event)
            elif isinstance(event, h11.Data) and event.chunk_start:
                self._check_chunk(event)
        except h11.RemoteProtocolError as flaw:
            self.flaw = flaw
            raise
        return event

    def _check_request(self, request: h11.Request) -> None:
        self._chunks = self._in_chunks = 0
        if request.http_version not in VERSIONS:
            raise _flaw("HTTP/1.0 and HTTP/1.1 are spoken here.", 505)
        names = [name for name, _ in request.headers]
        if b"transfer-encoding" in names and (b"content-length" in names or request.http_version == b"1.0"):
            raise _flaw("A body has either a Content-Length or, in HTTP/1.1, a Transfer-Encoding.")

    def _check_chunk(self, data: h11.Data) -> None:
        self._chunks += 1
        self._in_chunks += len(data.data)
        if self._chunks > MOST_CHUNKS + self._in_chunks // BYTES_A_CHUNK:
            raise _flaw("The body comes in too many small chunks: send larger ones.")


def _flaw(message: str, status: int = 400) -> h11.RemoteProtocolError:
    return h11.RemoteProtocolError(message, error_status_hint=status)
