"""How many connections there may be, of all and of one peer."""

import asyncio

import pytest

from service.observability.metrics import Metrics
from service.transports.rest.connections import Connections
from tests.transports.rest.served import Client, Served, limited, problem_in, with_server
from tests.transports.rest.service_fake import Rest

ALIVE = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"


async def status(client: Client) -> int:
    await client.say(ALIVE)
    return (await client.answer())[0]


def test_threat_22_above_the_cap_connections_are_refused_and_those_that_are_there_are_served(rest: Rest) -> None:
    async def ask(served: Served) -> tuple[list[bytes], list[int]]:
        first = [await served.connect() for _ in range(3)]
        before = [await status(each) for each in first]
        further = [await served.connect() for _ in range(100)]
        refused = await asyncio.gather(*(each.all() for each in further))
        during = [await status(each) for each in first]
        assert served.cut("too_many") == 100
        first[0].writer.close()
        # Its place is free once the server has seen that it left.
        while (await again(served))[0] != 200:
            pass
        return list(refused), before + during

    async def again(served: Served) -> tuple[int, bytes]:
        client = await served.connect()
        client.writer.write(ALIVE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        answer = await client.all()
        return (int(answer.split()[1]), answer) if answer else (0, b"")

    refused, served_well = with_server(rest.application, rest.metrics, ask, limited(at_once=3))
    assert served_well == [200] * 6
    for each in refused:
        told, document = problem_in(each)
        assert (told, document["code"]) == (503, "overloaded")
        assert b"retry-after: 1\r\n" in each.lower()


def test_threat_22_one_address_has_its_own_cap(rest: Rest) -> None:
    async def ask(served: Served) -> tuple[list[int], int, float]:
        first = [await served.connect() for _ in range(2)]
        refused = await (await served.connect()).all()
        other = await served.connect(local_addr=("127.0.0.2", 0))
        found = [await status(each) for each in (*first, other)]
        return found, problem_in(refused)[0], served.cut("too_many_of_one")

    assert with_server(rest.application, rest.metrics, ask, limited(of_address=2)) == ([200] * 3, 503, 1)


def test_threat_22_what_a_header_says_of_the_address_is_nothing(rest: Rest) -> None:
    async def ask(served: Served) -> int:
        first = await served.connect()
        await first.say(ALIVE.replace(b"host", b"X-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\nhost"))
        await first.answer()
        client = await served.connect()
        return problem_in(await client.all())[0]

    assert with_server(rest.application, rest.metrics, ask, limited(of_address=1)) == 503


@pytest.mark.parametrize(
    ("one", "another", "together"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "", True),
    ],
)
def test_a_peer_is_an_address_or_the_network_of_one_holder(one: str, another: str, together: bool) -> None:
    connections = Connections(limited(of_address=1), Metrics("0"))
    assert connections.enter(one)
    assert connections.enter(another) is not together
    connections.leave(one)
    assert connections.enter(one)
