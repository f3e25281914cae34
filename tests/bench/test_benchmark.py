"""A whole benchmark, against a small real server."""

import asyncio

from service.bench.benchmark import Benchmark, Outcome
from service.bench.pictures import sample_pictures
from service.bench.plan import Plan
from service.bench.questions import questions
from service.bench.target import over_rest
from tests.bench.small_server import answer, small_server


def measured(*rates: float) -> Outcome:
    async def handle(body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b'{"model": "one", "usage": {"completion_tokens": 2}}'))

    async def run() -> Outcome:
        async with small_server(handle) as port:
            plan = Plan(rates, 0.5, 30.0, 2, 0, cached=True)
            asked = questions(["read"], None, {}, sample_pictures())
            return await Benchmark(over_rest(f"http://127.0.0.1:{port}", None, None), asked, plan, lambda over, doing: None).run()

    return asyncio.run(run())


def test_a_rate_at_which_nothing_is_due_is_not_left_out() -> None:
    outcome = measured(50.0, 1e-9)
    assert [load.rate for load in outcome.loads] == [50.0, 1e-9]
    assert [load.sent > 0 for load in outcome.loads] == [True, False]
    assert outcome.models == ["one"]
