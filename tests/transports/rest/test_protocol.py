"""One connection: until when a request must be whole, and an answer read."""

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from service.tasks.streaming import TokenEvent
from tests.transports.rest.served import Client, Served, limited, problem_in, until, with_server
from tests.transports.rest.service_fake import IMAGE_TEXT, Rest

ALIVE = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /v1/detect HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
BODY = b'{"objects": ["cat"], "image": "%s"}' % IMAGE_TEXT.encode()
SOON = 0.2
"""Seconds of a limit that is meant to pass."""


@pytest.mark.parametrize("begun", [b"G", b"GET / HTTP/1.1\r\nhost: x\r\n", ALIVE[:-1]])
def test_threat_22_half_a_head_is_answered_and_cut(rest: Rest, begun: bytes) -> None:
    async def ask(served: Served) -> tuple[bytes, float]:
        return await served.ask(begun), served.cut("late")

    answer, cut = with_server(rest.application, rest.metrics, ask, limited(head=SOON))
    status, document = problem_in(answer)
    assert (status, document["code"], cut) == (408, "request_timeout", 1)


def test_threat_22_a_connection_on_which_nothing_comes_is_cut_without_a_word(rest: Rest) -> None:
    async def ask(served: Served) -> bytes:
        return await served.ask(b"")

    assert with_server(rest.application, rest.metrics, ask, limited(head=SOON)) == b""


def test_threat_22_a_head_that_drips_is_cut(rest: Rest) -> None:
    async def ask(served: Served) -> bytes:
        client = await served.connect()
        dripping = asyncio.ensure_future(drip(client, b"a: b\r\n"))
        answer = await client.all()
        dripping.cancel()
        return answer

    assert problem_in(with_server(rest.application, rest.metrics, ask, limited(head=SOON)))[0] == 408


def test_threat_22_a_second_head_has_its_own_time(rest: Rest) -> None:
    async def ask(served: Served) -> tuple[int, bytes]:
        client = await served.connect()
        await client.say(ALIVE + ALIVE[:10])
        status, _, _ = await client.answer()
        return status, await client.all()

    status, late = with_server(rest.application, rest.metrics, ask, limited(head=SOON))
    assert status == 200
    assert problem_in(late)[0] == 408


def test_an_idle_connection_is_closed(rest: Rest) -> None:
    async def ask(served: Served) -> tuple[int, bytes]:
        client = await served.connect()
        await client.say(ALIVE)
        status, _, _ = await client.answer()
        return status, await client.all()

    assert with_server(rest.application, rest.metrics, ask, limited(head=SOON), keep_alive=SOON) == (200, b"")


async def drip(client: Client, data: bytes) -> None:
    """Again and again, until the server has enough."""
    with suppress(ConnectionError):
        while True:
            await client.say(data)
            await asyncio.sleep(0.02)


FRAMED = {"length": (b"content-length: 900\r\n\r\n{", b" "), "chunks": (b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n", b"1\r\n \r\n")}


@pytest.mark.parametrize("drips", [False, True], ids=["stalled", "dripping"])
@pytest.mark.parametrize("framing", FRAMED)
def test_threat_22_a_slow_body_is_answered_by_its_handler_and_counted(
    rest: Rest, framing: str, drips: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    head, drop = FRAMED[framing]

    async def ask(served: Served) -> tuple[bytes, float]:
        client = await served.connect()
        await client.say(POST + head)
        dripping = asyncio.ensure_future(drip(client, drop) if drips else asyncio.Event().wait())
        answer = await client.all()
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        return answer, served.cut("late")

    answer, cut = with_server(rest.application, rest.metrics, ask, limited(body=SOON))
    status, document = problem_in(answer)
    assert (status, document["code"], cut) == (408, "request_timeout", 1)
    assert rest.counted() == ['paliserve_requests_total{code="request_timeout",model="_other",task="detect",transport="rest"} 1.0']
    assert [record.getMessage().split(" ms")[0].rpartition(" ")[0] for record in caplog.records if "/v1/" in record.getMessage()] == [
        "POST /v1/detect 408 request_timeout"
    ]


def test_a_slow_body_that_keeps_its_rate_is_taken(rest: Rest) -> None:
    async def ask(served: Served) -> int:
        client = await served.connect()
        await client.say(POST + b"content-length: %d\r\n\r\n" % (len(BODY) + 50_000))
        for _ in range(50):
            await client.say(b" " * 1000)
            await asyncio.sleep(0.02)
        await client.say(BODY)
        return (await client.answer())[0]

    # In a second and more.
    assert with_server(rest.application, rest.metrics, ask, limited(body=0.3, rate=1000)) == 200


def test_work_on_a_whole_request_is_in_no_hurry(rest: Rest) -> None:
    rest.fake.hold = True

    async def ask(served: Served) -> int:
        client = await served.connect()
        await client.say(POST + b"content-length: %d\r\n\r\n" % len(BODY))
        await client.say(BODY)
        await rest.fake.entered.wait()
        await asyncio.sleep(3 * SOON)
        rest.fake.release()
        return (await client.answer())[0]

    assert with_server(rest.application, rest.metrics, ask, limited(head=SOON, body=SOON), keep_alive=SOON) == 200


@pytest.mark.parametrize(
    ("rest_of_it", "words"), [(b"zz\r\n", "as it must be"), (b"1\r\nab\r\n", "as it must be"), (b"1\r\n \r\n" * 2000, "as it must be")]
)
def test_threat_23_a_body_that_is_no_longer_http_is_answered_by_its_handler(rest: Rest, rest_of_it: bytes, words: str) -> None:
    async def ask(served: Served) -> tuple[bytes, float]:
        return await served.ask(POST + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n" + rest_of_it), served.cut("malformed")

    answer, cut = with_server(rest.application, rest.metrics, ask)
    status, document = problem_in(answer)
    assert (status, document["code"], cut) == (400, "invalid_request", 1)
    assert words in document["detail"]
    assert len(rest.counted()) == 1


def test_who_leaves_in_the_middle_of_a_body_is_counted_once(rest: Rest) -> None:
    async def ask(served: Served) -> None:
        client = await served.connect()
        await client.say(POST + b"content-length: 900\r\n\r\n{")
        client.writer.close()
        await until(lambda: bool(rest.counted()))

    with_server(rest.application, rest.metrics, ask)
    assert rest.counted() == ['paliserve_requests_total{code="cancelled",model="_other",task="detect",transport="rest"} 1.0']


def unread(request: bytes) -> Callable[[Served], Coroutine[Any, Any, float]]:
    """Asks, again and again, and reads nothing."""

    async def ask(served: Served) -> float:
        taken = socket.socket()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        taken.setblocking(False)
        await asyncio.get_running_loop().sock_connect(taken, served.address)
        await asyncio.get_running_loop().sock_sendall(taken, request)
        await until(lambda: served.cut("unread") == 1)
        await until(lambda: served.counted("paliserve_connections") == {"": 0.0})
        taken.close()
        return served.cut("unread")

    return ask


def test_threat_22_an_answer_that_is_not_read_is_cut(rest: Rest) -> None:
    from tests.transports.rest.service_fake import result

    rest.fake.results["detect"] = result("detect", text="x" * 20_000_000)
    asked = POST + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
    assert with_server(rest.application, rest.metrics, unread(asked), limited(send=SOON, rate=10**9), keep_alive=SOON) == 1


def test_threat_22_a_stream_that_is_not_read_ends_its_task(rest: Rest) -> None:
    rest.fake.events, rest.fake.hold = [TokenEvent("x" * 1_000_000, number) for number in range(20)], True
    body = BODY[:-1] + b', "stream": true}'
    asked = POST + b"content-length: %d\r\n\r\n" % len(body) + body
    assert with_server(rest.application, rest.metrics, unread(asked), limited(send=SOON, rate=10**9)) == 1
    assert rest.fake.cancelled
    assert 'code="cancelled"' in rest.counted()[0]


def test_threat_22_many_who_drip_keep_nobody_waiting(rest: Rest) -> None:
    async def ask(served: Served) -> tuple[set[int], list[bytes]]:
        clients = [await served.connect() for _ in range(200)]
        dripping = [asyncio.ensure_future(drip(each, b"a")) for each in clients]
        bystander = await served.connect()
        found = set()
        while served.cut("late") < 200:
            await bystander.say(ALIVE)
            found.add((await bystander.answer())[0])
        answers = [await each.all() for each in clients]
        for each in dripping:
            each.cancel()
        await asyncio.gather(*dripping, return_exceptions=True)
        return found, answers

    statuses, answers = with_server(rest.application, rest.metrics, ask, limited(head=1.0))
    assert statuses == {200}
    # A reset may overtake the answer of one that goes on sending.
    assert all(not each or problem_in(each)[0] == 408 for each in answers)


def test_a_request_in_one_piece_sets_no_timer(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    from service.transports.rest.protocol import TimedProtocol

    woken: list[float] = []
    monkeypatch.setattr(TimedProtocol, "_wake_at", lambda self, when: woken.append(when))

    async def ask(served: Served) -> None:
        client = await served.connect()
        for _ in range(5):
            await client.say(ALIVE)
            await client.answer()

    with_server(rest.application, rest.metrics, ask)
    assert len(woken) == 1


def test_connections_are_counted_while_they_are_there(rest: Rest) -> None:
    async def ask(served: Served) -> list[float]:
        clients = [await served.connect() for _ in range(3)]
        for each in clients:
            await each.say(ALIVE)
            await each.answer()
        open_then = served.counted("paliserve_connections")[""]
        for each in clients:
            each.writer.close()
        await until(lambda: served.counted("paliserve_connections")[""] == 0)
        return [open_then]

    assert with_server(rest.application, rest.metrics, ask) == [3]


def test_threat_22_a_skipped_body_ends_like_any_other(rest: Rest) -> None:
    rest.service.full = True

    async def ask(served: Served) -> list[bytes]:
        dripping, idle = await served.connect(), await served.connect()
        for client in (dripping, idle):
            await client.say(POST + b"content-length: %d\r\n\r\n" % len(BODY))
            assert (await client.answer())[0] == 503
        # One never sends what it announced; the other does, and then nothing more.
        await idle.say(BODY)
        return [await dripping.all(), await idle.all()]

    assert with_server(rest.application, rest.metrics, ask, limited(body=SOON), keep_alive=SOON) == [b"", b""]
