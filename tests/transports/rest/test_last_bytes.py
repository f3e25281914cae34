"""An answer of which a client reads all but the end."""

import asyncio
import socket

import pytest

from service.transports.rest.protocol import TimedProtocol
from tests.transports.rest.served import Served, limited, until, with_server
from tests.transports.rest.service_fake import Rest, result
from tests.transports.rest.test_protocol import BODY, POST


def test_threat_22_the_last_bytes_of_an_answer_have_an_end_too(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    rest.fake.results["detect"] = result("detect", text="x" * 400_000)
    made: list[asyncio.Transport] = []
    begin = TimedProtocol.connection_made

    def begun(self: TimedProtocol, transport: asyncio.Transport) -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        made.append(transport)
        begin(self, transport)

    monkeypatch.setattr(TimedProtocol, "connection_made", begun)

    async def ask(served: Served) -> float:
        taken, loop = socket.socket(), asyncio.get_running_loop()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        taken.setblocking(False)
        await loop.sock_connect(taken, served.address)
        await loop.sock_sendall(taken, POST + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY)
        await until(lambda: made != [] and made[0].is_closing())
        # So little is left that the server may write again, and it has nothing more to write.
        while made[0].get_write_buffer_size() > 12_000:
            await loop.sock_recv(taken, 4096)
            await asyncio.sleep(0)
        assert made[0].get_write_buffer_size()
        await until(lambda: served.cut("unread") == 1)
        await until(lambda: served.counted("paliserve_connections") == {"": 0.0})
        taken.close()
        return served.cut("unread")

    assert with_server(rest.application, rest.metrics, ask, limited(send=1.0, rate=10**9)) == 1
