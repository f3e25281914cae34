"""What a full service refuses where the bytes arrive: the same as at its door, and nothing that could be read in two ways."""

import asyncio
import json

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.access.gate import Gate
from service.errors import Draining
from service.observability.tracing import PassedOn
from service.transports.rest.guard import Access
from service.transports.rest.protocol import Refusal
from service.transports.rest.turnstile import ODD, Turnstile, plain_head
from service.transports.visits import VisitBook
from tests.transports.rest.served import Client, Served, limited, with_server
from tests.transports.rest.service_fake import KEYS, Rest
from tests.transports.rest.test_protocol import BODY, POST, SOON

FIXED = ("date", "x-request-id", "retry-after")
"""Headers of an answer that differ from one to the next."""

Answer = tuple[int, dict[str, str], bytes]


def request(*headers: bytes, path: bytes = b"/v1/detect", body: bytes = BODY) -> bytes:
    lines = [b"POST %s HTTP/1.1" % path, b"Host: x", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


PLAIN = request(b"Content-Type: application/json")


class Counting(Turnstile):
    """Counts whom it refuses."""

    refused = 0

    def refusal(self, data: bytes, port: int | None) -> Refusal | None:
        found = super().refusal(data, port)
        self.refused += found is not None
        return found


def at(rest: Rest, access: Access | None = None, port: int | None = None) -> Counting:
    return Counting(rest.service, access or Access(), VisitBook("rest", rest.metrics, PassedOn()), port)


def asked(rest: Rest, *requests: bytes, access: Access | None = None) -> tuple[list[Answer], int]:
    """The answers on one connection, and how many of them the turnstile gave."""
    entrance = at(rest, access)

    async def ask(served: Served) -> list[Answer]:
        client = await served.connect()
        return [await said(client, each) for each in requests]

    return with_server(rest.application, rest.metrics, ask, entrance=entrance), entrance.refused


async def said(client: Client, data: bytes) -> Answer:
    await client.say(data)
    return await client.answer()


@pytest.fixture
def full(rest: Rest) -> Rest:
    rest.service.full = True
    return rest


@pytest.mark.parametrize("path", [b"/v1/detect", b"/v1/chat/completions", b"/v1/batch", b"/v2/models/fake-224/infer"])
def test_threat_49_the_answer_is_that_of_the_door(full: Rest, path: bytes) -> None:
    same_site = b"Origin: http://x"
    (plain, odd), refused = asked(full, request(path=path), request(same_site, path=path))
    assert refused == 1
    assert plain[0] == odd[0] == 503
    told = [json.loads(body) for _, _, body in (plain, odd)]
    assert all(each.pop("request_id") for each in told)
    assert told[0] == told[1]
    assert {name: value for name, value in plain[1].items() if name not in FIXED} == {
        name: value for name, value in odd[1].items() if name not in FIXED
    }
    assert plain[1].keys() == odd[1].keys() > {"date", "retry-after", "x-content-type-options"}
    task = {"chat": "chat", "dete": "detect", "batc": "batch", "mode": "infer"}[path.decode().split("/")[2][:4]]
    assert full.counted() == [f'paliserve_requests_total{{code="overloaded",model="_other",task="{task}",transport="rest"}} 2.0']


def test_the_id_of_the_caller_is_kept(full: Rest) -> None:
    ((_, headers, body),), refused = asked(full, request(b"X-Request-ID: mine"))
    assert (refused, headers["x-request-id"]) == (1, "mine")
    assert b'"request_id":"mine"' in body


def test_once_there_is_room_the_next_on_the_same_connection_is_answered(full: Rest) -> None:
    entrance = at(full)

    async def ask(served: Served) -> list[int]:
        client = await served.connect()
        statuses = [(await said(client, PLAIN))[0] for _ in range(3)]
        full.service.full = False
        statuses += [(await said(client, PLAIN))[0] for _ in range(2)]
        full.service.full = True
        return [*statuses, (await said(client, PLAIN))[0]]

    assert with_server(full.application, full.metrics, ask, entrance=entrance) == [503, 503, 503, 200, 200, 503]
    assert entrance.refused == 4


@pytest.mark.parametrize("size", [1, 7, 60, len(PLAIN) - len(BODY), len(PLAIN) - len(BODY) + 3, len(PLAIN) - 1, len(PLAIN) + 5])
def test_bodies_in_pieces_and_requests_in_a_row_keep_their_bounds(full: Rest, size: int) -> None:
    data = PLAIN * 5

    async def ask(served: Served) -> list[int]:
        client = await served.connect()
        for begin in range(0, len(data), size):
            await client.say(data[begin : begin + size])
            await asyncio.sleep(0)
        return [(await client.answer())[0] for _ in range(5)]

    assert with_server(full.application, full.metrics, ask, entrance=at(full)) == [503] * 5


@pytest.mark.parametrize("more", [b"", b"a"], ids=["stalled", "dripping"])
def test_threat_22_a_refused_body_that_never_ends_is_cut(full: Rest, more: bytes) -> None:
    async def ask(served: Served) -> tuple[bytes, float]:
        client = await served.connect()
        await client.say(PLAIN[:-20])
        for _ in range(10):
            await client.say(more)
            await asyncio.sleep(0.005)
        return await client.all(), served.cut("late")

    answer, cut = with_server(full.application, full.metrics, ask, limited(body=SOON), entrance=at(full))
    assert (answer.count(b"HTTP/1.1 503 "), cut) == (1, 1)
    assert b" 408 " not in answer


def test_a_refused_body_that_keeps_its_rate_is_read_away(full: Rest) -> None:
    body = b" " * 50_000

    async def ask(served: Served) -> list[int]:
        client = await served.connect()
        data = request(body=body)
        await client.say(data[: -len(body)])
        for begin in range(0, len(body), 1000):
            await client.say(body[begin : begin + 1000])
            await asyncio.sleep(0.02)
        return [(await client.answer())[0], (await said(client, PLAIN))[0]]

    # In a second and more.
    assert with_server(full.application, full.metrics, ask, limited(body=0.3, rate=1000), entrance=at(full)) == [503, 503]


def test_an_idle_connection_is_closed_behind_a_refusal(full: Rest) -> None:
    async def ask(served: Served) -> bytes:
        return await served.ask(PLAIN)

    assert with_server(full.application, full.metrics, ask, keep_alive=SOON, entrance=at(full)).count(b"HTTP/1.1 503 ") == 1


def test_requests_in_a_row_are_left_to_who_takes_them_one_by_one(full: Rest) -> None:
    assert at(full).refusal(PLAIN * 2, 8000) is None
    assert full.counted() == []


def test_threat_53_a_wrong_key_is_told_so_and_a_caller_s_rate_is_counted(full: Rest) -> None:
    access = Access(Gate(lambda: KEYS, anonymous=False, lenient=False, clock=lambda: 0.0))
    full.serve(access)
    bearer = [request(b"Authorization: Bearer %s's" % name) for name in (b"nobody", b"slow", b"slow", b"slow", b"slow", b"user")]
    answers, refused = asked(full, *bearer, request(), access=access)
    assert [status for status, _, _ in answers] == [401, 503, 503, 503, 429, 503, 401]
    # A rate that is reached is no queue that is full.
    assert refused == full.service.refused == 4


def test_threat_31_another_name_is_told_so(full: Rest) -> None:
    access = Access(allowed_hosts=("localhost",))
    full.serve(access)
    answers, refused = asked(full, request(), access=access)
    assert ([status for status, _, _ in answers], refused) == ([421], 0)


def test_who_stops_says_that(full: Rest) -> None:
    full.service.refusal = Draining("This process is stopping: send the request to another one.")
    assert at(full).refusal(PLAIN, 8000) is None


def test_only_the_port_of_the_tasks_has_a_turnstile(full: Rest) -> None:
    assert at(full, port=8000).refusal(PLAIN, 9000) is None
    assert at(full, port=8000).refusal(PLAIN, 8000) is not None


def test_where_there_is_room_nobody_is_refused_or_counted(rest: Rest) -> None:
    assert at(rest).refusal(PLAIN, 8000) is None
    assert rest.service.inside == 0
    assert rest.counted() == []


NOT_PLAIN = {
    "another method": PLAIN.replace(b"POST", b"PUT"),
    "another path": request(path=b"/v1/models"),
    "a query": request(path=b"/v1/detect?a=b"),
    "an escaped path": request(path=b"/v1/d%65tect"),
    "HTTP/1.0": PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "closing": request(b"Connection: close"),
    "a second length": request(b"content-length: 5"),
    "a second host": request(b"host: y"),
    "no host": PLAIN.replace(b"Host: x\r\n", b""),
    "no length": PLAIN.replace(b"Content-Length", b"Content-Size"),
    "a signed length": PLAIN.replace(b"Content-Length: ", b"Content-Length: +"),
    "two lengths in one": PLAIN.replace(b"Content-Length: ", b"Content-Length: 1, "),
    "a large body": POST + b"content-length: 1000001\r\n\r\n",
    "a folded line": request(b"A: b\r\n c"),
    "a space before the colon": request(b"A : b"),
    "no colon": request(b"A"),
    "a bare line feed": PLAIN.replace(b"Host: x\r\n", b"Host: x\n"),
    "a byte that is not text": request(b"A: \xff"),
    "a NUL": request(b"A: a\x00b"),
    "half a head": PLAIN[:60],
    "many headers": request(*(b"a%d: b" % number for number in range(130))),
    "a head without an end": PLAIN[:40] + b"a" * 70_000,
} | {name.decode(): request(b"%s: x" % name) for name in sorted(ODD)}


@pytest.mark.parametrize("data", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_threat_26_what_is_not_plain_is_left_to_the_parser(full: Rest, data: bytes) -> None:
    assert at(full).refusal(data, 8000) is None


PIECES = (
    "\r\n|\n|\r| |\t|:|: |0|5|,|a|Host: y|Transfer-Encoding: chunked|Content-Length: 4|\0|\x0b|\x85|\xa0|HTTP/1.1|POST |"
    "GET / HTTP/1.1|\r\n\r\n|Connection: keep-alive"
)
pieces = st.sampled_from(PIECES.encode("latin-1").split(b"|"))
edits = st.lists(st.tuples(st.integers(0, len(PLAIN)), st.integers(0, 30), pieces | st.binary(max_size=4)), max_size=4)


@given(edits)
@example([(len(PLAIN) - len(BODY) - 4, 0, b"\r\nConnection: keep-alive")])
@example([])
def test_threat_26_what_is_taken_for_plain_the_parser_reads_alike(changes: list[tuple[int, int, bytes]]) -> None:
    data = PLAIN
    for place, dropped, put in changes:
        data = data[:place] + put + data[place + dropped :]
    head = plain_head(data)
    if head is None:
        return
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(data[: head.size] + b"b" * head.length + b"POST / HTTP/1.1\r\n")
    event = parser.next_event()
    assert isinstance(event, h11.Request)
    assert (event.method, event.target.decode()) == (b"POST", head.path)
    assert dict(event.headers) == head.headers
    body = bytearray()
    while isinstance(event := parser.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert body == b"b" * head.length
    assert parser.trailing_data[0] == b"POST / HTTP/1.1\r\n"


def test_the_plain_one_is_plain() -> None:
    head = plain_head(PLAIN)
    assert head is not None
    assert (head.path, head.size + head.length) == ("/v1/detect", len(PLAIN))
    assert plain_head(request(b"Connection: Keep-Alive")) is not None
