import math

from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.generation import FinishReason, Generated
from service.engine.request import Phase, Request
from service.engine.runner import Sampled
from service.engine.scheduler import Decode, Prefill, Scheduler
from service.errors import DeadlineExceeded, GenerationFailed
from tests.fakes import END, CountingRunner, expected_tokens, generation


def scheduler(slots: int = 4, prefill_tokens: int = 1000) -> Scheduler:
    return Scheduler(slots, image_tokens=4, end_tokens=frozenset({END}), prefill_tokens=prefill_tokens)


def request(answer: int = 3, last: int = 100, max_tokens: int = 1000, deadline: float | None = None) -> Request:
    return Request(generation(answer, last, max_tokens, deadline), 0.0)


def sampled(batch: Prefill | Decode | None, token: int = 50, probability: float = 0.5) -> Sampled:
    assert batch is not None
    return Sampled([token] * len(batch.requests), [probability] * len(batch.requests))


def test_nothing_to_do_is_none() -> None:
    idle = scheduler()
    assert not idle.load
    assert idle.next_batch() is None


def test_waiting_requests_are_prefilled_in_order_of_arrival() -> None:
    one, two = request(), request()
    line = scheduler()
    line.add(one)
    line.add(two)
    assert line.next_batch() == Prefill([one, two], first_slot=0)
    assert one.phase is Phase.RUNNING


def test_a_prefill_is_bounded_in_tokens_but_takes_at_least_one() -> None:
    line = scheduler(prefill_tokens=13)  # each prompt is 4 + 2 tokens
    for _ in range(3):
        line.add(request())
    batch = line.next_batch()
    assert batch is not None
    assert len(batch.requests) == 2
    strict = scheduler(prefill_tokens=1)
    strict.add(request())
    strict.add(request())
    batch = strict.next_batch()
    assert batch is not None
    assert len(batch.requests) == 1


def test_decodes_come_between_two_prefills() -> None:
    line = scheduler(prefill_tokens=1)
    for _ in range(3):
        line.add(request())
    phases = []
    for _ in range(5):
        batch = line.next_batch()
        phases.append(type(batch))
        line.record(batch, sampled(batch), 0.0)  # type: ignore[arg-type]
        line.retire(0.0)
    assert phases == [Prefill, Decode, Prefill, Decode, Prefill]


def test_prompts_that_do_not_fill_a_prefill_wait_a_few_steps_for_others() -> None:
    line = scheduler(slots=5, prefill_tokens=18)  # three prompts of 4 + 2 tokens
    phases, patient = [], Scheduler.PATIENCE
    line.add(request())
    for step in range(patient + 4):
        if step in (1, patient + 2, patient + 3):
            line.add(request())
        if step == patient + 3:
            line.add(request())
        batch = line.next_batch()
        assert batch is not None
        phases.append((type(batch), len(batch.requests)))
        line.record(batch, sampled(batch), 0.0)
        line.retire(0.0)
    assert phases == [(Prefill, 1)] + [(Decode, 1)] * patient + [(Prefill, 1), (Decode, 2), (Prefill, 3)]


def test_the_end_token_is_not_part_of_the_answer() -> None:
    line, one = scheduler(), request()
    line.add(one)
    batch = line.next_batch()
    assert batch is not None
    assert line.record(batch, sampled(batch, END, 0.25), 2.0) == [one]
    assert isinstance(one.outcome, Generated)
    assert (one.outcome.tokens, one.outcome.end_probability, one.outcome.finish_reason) == ((), 0.25, FinishReason.STOP)


def test_the_token_budget_ends_an_answer() -> None:
    line, one = scheduler(), request(max_tokens=1)
    line.add(one)
    batch = line.next_batch()
    assert batch is not None
    line.record(batch, sampled(batch, 50), 0.0)
    assert isinstance(one.outcome, Generated)
    assert (one.outcome.tokens, one.outcome.finish_reason) == ((50,), FinishReason.LENGTH)


def test_logits_that_are_not_finite_fail_their_own_request_only() -> None:
    line, sick, well = scheduler(), request(), request()
    line.add(sick)
    line.add(well)
    batch = line.next_batch()
    assert batch is not None
    assert line.record(batch, Sampled([7, 7], [math.nan, 0.5]), 0.0) == [sick]
    assert isinstance(sick.outcome, GenerationFailed)
    assert well.phase is Phase.RUNNING


def test_a_cancelled_request_leaves_its_slot_before_the_next_step() -> None:
    line, one, two = scheduler(), request(), request()
    line.add(one)
    line.add(two)
    batch = line.next_batch()
    assert batch is not None
    line.record(batch, sampled(batch), 0.0)
    one.cancelled = True
    assert line.retire(0.0) == ([(1, 0)], [one])
    assert line.next_batch() == Decode([two])


def test_a_deadline_drops_the_waiting_and_the_running() -> None:
    line, running, waiting = scheduler(slots=1), request(deadline=5.0), request(deadline=5.0)
    line.add(running)
    line.add(waiting)
    batch = line.next_batch()
    assert batch is not None
    line.record(batch, sampled(batch), 1.0)
    assert line.retire(4.9) == ([], [])
    assert line.retire(5.0) == ([], [waiting, running])
    assert isinstance(running.outcome, DeadlineExceeded)
    assert not line.load


def test_times_are_told_apart() -> None:
    line, one = scheduler(), request(max_tokens=2)
    line.add(one)
    batch = line.next_batch()
    assert batch is not None
    one.started, one.vision = 3.0, 0.5
    line.record(batch, sampled(batch), 4.0)
    batch = line.next_batch()
    assert batch is not None
    line.record(batch, sampled(batch), 6.0)
    assert isinstance(one.outcome, Generated)
    times = one.outcome.times
    assert (times.queue, times.vision, times.prefill, times.decode) == (3.0, 0.5, 0.5, 2.0)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_order_of_joining_and_leaving_gives_everyone_the_same_answer(data: st.DataObject) -> None:
    """Every request ends; whoever was not cancelled has the tokens it would have alone."""
    slots = data.draw(st.integers(1, 5))
    runner = CountingRunner(slots)
    line = Scheduler(slots, runner.image_tokens, runner.end_tokens, data.draw(st.integers(1, 40)))
    everyone = [
        request(data.draw(st.integers(0, 6)), last=1000 * (index + 1), max_tokens=data.draw(st.integers(1, 6)))
        for index in range(data.draw(st.integers(1, 12)))
    ]
    coming = list(everyone)
    for step in range(400):
        if not coming and not line.load:
            break
        for _ in range(min(len(coming), data.draw(st.integers(0 if line.load else 1, 3)))):
            line.add(coming.pop())
        if step % 7 == 3:
            data.draw(st.sampled_from(everyone)).cancelled = True
        moves, _ = line.retire(0.0)
        for source, target in moves:
            runner.move(source, target)
        batch = line.next_batch()
        if isinstance(batch, Prefill):
            generations = [each.generation for each in batch.requests]
            for generation_ in generations:
                generation_.prompt.pictures[0].features = "features"
            line.record(batch, runner.prefill(generations, batch.first_slot), 0.0)
        elif batch is not None:
            line.record(batch, runner.decode(batch.slots), 0.0)
    assert all(each.phase is Phase.ENDED for each in everyone)
    for each in everyone:
        if isinstance(each.outcome, Generated):
            assert each.outcome.tokens == expected_tokens(each.generation)
        else:
            assert each.cancelled
