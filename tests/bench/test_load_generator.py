"""Against a small real server. Its delays bound latencies from below; nothing here says how quick this machine is."""

import asyncio

import pytest

from service.bench.http_connection import BROKEN, HttpServer
from service.bench.http_framing import post
from service.bench.load_generator import GAVE_UP, ClosedLoop, OpenLoop, Recorder, Reply, send_closed, send_open
from tests.bench.small_server import Handle, answer, chunked, small_server

ASK = post("/", {})
DELAY = 0.05


async def opened(handle: Handle, times: tuple[float, ...], patience: float = 30.0) -> list[Reply]:
    async with small_server(handle) as port:
        server, recorder = HttpServer(port), Recorder()
        await send_open(OpenLoop(server, times, patience), [ASK] * len(times), recorder)
        return recorder.replies(server)


def test_latency_counts_from_when_a_request_was_due() -> None:
    """A server that answers one at a time: who comes while it is busy waits for all before, and no wait is left out."""
    turn = asyncio.Lock()

    async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
        async with turn:
            await asyncio.sleep(DELAY)
            writer.write(answer(b"{}"))

    replies = asyncio.run(opened(handle, (0.0, 0.001, 0.002, 0.003)))
    assert [each.status for each in replies] == [200] * 4
    for place, each in enumerate(replies):
        assert each.latency >= (place + 1) * DELAY - each.due - 0.01
        assert each.ended >= each.due + each.late


def test_a_client_that_is_late_is_told_of_and_hides_nothing() -> None:
    """Requests that were due before the client came to send them have waited already (coordinated omission)."""

    async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"{}"))

    async def late() -> list[Reply]:
        async with small_server(handle) as port:
            server, recorder = HttpServer(port), Recorder()
            recorder.began -= 1.0
            await send_open(OpenLoop(server, (0.2, 0.4), 30.0), [ASK, ASK], recorder)
            return recorder.replies(server)

    for each in asyncio.run(late()):
        assert each.late >= 0.6
        assert each.latency >= each.late


def test_a_request_is_given_up_and_others_are_not() -> None:
    async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
        if not turned_away:
            turned_away.append(body)
            await asyncio.Event().wait()
        writer.write(answer(b"{}"))

    turned_away: list[bytes] = []
    replies = asyncio.run(opened(handle, (0.0, 0.3, 0.6), patience=0.25))
    first, *others = sorted(replies, key=lambda each: each.index)
    assert first.status == GAVE_UP
    assert first.latency >= 0.25
    assert [each.status for each in others] == [200, 200]


def test_a_connection_that_fails_is_told_of_and_the_next_one_is_new() -> None:
    async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
        if not cut:
            cut.append(body)
            writer.close()
        else:
            writer.write(answer(b"{}", "503 Service Unavailable"))

    cut: list[bytes] = []
    replies = asyncio.run(opened(handle, (0.0, 0.2)))
    assert [each.status for each in sorted(replies, key=lambda each: each.index)] == [BROKEN, 503]


def test_the_first_piece_of_a_stream_is_no_comment() -> None:
    async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
        head, *pieces = chunked(b": still at work\n\n", b"event: token\ndata: {}\n\n", b"event: result\ndata: {}\n\n").partition(
            b"\r\n\r\n"
        )
        comment, rest = b"".join(pieces)[:24], b"".join(pieces)[24:]
        writer.write(head + comment)
        await asyncio.sleep(DELAY)
        writer.write(rest)

    (heard,) = asyncio.run(opened(handle, (0.0,)))
    assert heard.status == 200
    assert DELAY - 0.01 <= heard.first <= heard.ended


@pytest.mark.parametrize("status", ["200 OK", "503 Service Unavailable"])
def test_a_closed_loop_keeps_so_many_in_flight_and_no_more(status: str) -> None:
    inside: list[int] = []
    now = 0

    async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal now
        now += 1
        inside.append(now)
        await asyncio.sleep(0.001)
        now -= 1
        writer.write(answer(b"{}", status))

    async def closed() -> int:
        async with small_server(handle) as port:
            recorder = Recorder()
            await send_closed(ClosedLoop(HttpServer(port), 3, 2, 10, 60.0), [ASK] * 100, recorder)
            return len(recorder)

    heard = asyncio.run(closed())
    assert 12 <= heard <= 15
    assert max(inside) <= 3


def test_who_cancels_a_loop_keeps_what_was_heard() -> None:
    async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"{}"))

    async def cancelled() -> list[Reply]:
        async with small_server(handle) as port:
            server, recorder = HttpServer(port), Recorder()
            sending = asyncio.create_task(send_open(OpenLoop(server, (0.0, 0.0, 1000.0), 30.0), [ASK] * 3, recorder))
            while len(recorder) < 2:  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.001)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            return recorder.replies(server)

    assert [each.status for each in asyncio.run(cancelled())] == [200, 200]
