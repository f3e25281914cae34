import random
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from load_tests.capacity.autoscaler import Autoscaler, Counted, Goal, ScalingRules, Seen
from load_tests.capacity.calibration import fitted
from load_tests.capacity.desk import Status
from load_tests.capacity.routing import AtRandom, ByPicture, LeastBusy, RoundRobin, Router
from load_tests.capacity.scaling import lag, most_utilisation
from load_tests.capacity.service_times import Cost, FrontTimes, Host, InstanceTimes, ReplicaTimes, computed
from load_tests.capacity.simulation import Run, Simulation
from load_tests.capacity.traffic import Arrival, Fresh, Kind, Popular, Sittings, arrivals, bursts, daily, ramp, steady

NOTHING = FrontTimes({"": 0.0}, {"": 0.0}, 0.0, 0.0, 0.0)
ONE_BY_ONE = InstanceTimes(10, slots=1, prefill_tokens=1, kept_pictures=0, vision=Cost(0, 0), prefill=Cost(0.010, 0), decode=Cost(0.010, 0))
SEVERAL = replace(ONE_BY_ONE, slots=4, prefill_tokens=40, kept_pictures=8, vision=Cost(0, 0.002), decode=Cost(0.001, 0.0001))


def replica(instance: InstanceTimes, **changes: Any) -> ReplicaTimes:
    return replace(ReplicaTimes("made up", NOTHING, {"m": instance}), **changes)


def kind(written: tuple[int, ...] = (1,), instance: str = "m") -> Kind:
    return Kind("caption", 1.0, instance, (6,), written)


def simulated(
    times: ReplicaTimes,
    rate: float,
    seconds: float,
    written: tuple[int, ...] = (1,),
    replicas: int = 1,
    seed: int = 1,
    timeout: float = 60.0,
) -> Simulation:
    return Simulation(times, replicas, LeastBusy(), arrivals(steady(rate), [kind(written)], Fresh(), seconds, seed), timeout=timeout)


class Pod:
    def __init__(self, number: int, in_flight: int = 0) -> None:
        self.number = number
        self.in_flight = in_flight


def test_one_server_with_a_constant_time_waits_as_long_as_the_formula_says() -> None:
    # Pollaczek and Khinchine: at a load of 0.7 the mean wait is 0.7 / (2 * 0.3) service times.
    run = simulated(replica(ONE_BY_ONE, queue=10_000), 70.0, 600.0).run()
    latencies = [each.ended - each.arrived for each in run.outcomes]
    assert sum(latencies) / len(latencies) == pytest.approx(0.010 * (1 + 0.7 / 0.6), rel=0.05)


def test_a_lone_request_takes_the_sum_of_its_parts() -> None:
    front = FrontTimes({"": 0.1}, {"": 0.2}, 0.04, 0.0, 0.01)
    run = Simulation(replica(SEVERAL, front=front), 1, RoundRobin(), [Arrival(1.0, "caption", "m", 1, 6, written=3)]).run()
    outcome = run.outcomes[0]
    decode_steps = 2 * 0.0011
    assert outcome.ended - outcome.arrived == pytest.approx(0.1 + 0.04 + 0.01 + 0.002 + 0.010 + decode_steps + 0.2)


@pytest.mark.parametrize("until", [2.0, 7.5, float("inf")])
def test_who_came_was_answered_or_refused_or_is_there(until: float) -> None:
    overloaded = simulated(replica(SEVERAL, queue=20), 400.0, 10.0, (1, 9, 30), replicas=2, timeout=0.5)
    run = overloaded.run(until)
    assert run.arrived == len(run.outcomes) + run.in_flight
    assert {each.status for each in run.outcomes} >= {Status.ANSWERED, Status.QUEUE_FULL}
    assert (run.in_flight == 0) == (until == float("inf"))


def test_the_same_seed_gives_the_same_run_and_another_one_another() -> None:
    runs = [simulated(replica(SEVERAL), 90.0, 5.0, (1, 4), replicas=2, seed=seed).run() for seed in (1, 1, 2)]
    assert runs[0].outcomes == runs[1].outcomes
    assert runs[0].outcomes != runs[2].outcomes


def test_a_full_queue_refuses_and_a_slow_one_says_so_at_the_door() -> None:
    full = simulated(replica(ONE_BY_ONE, queue=5), 300.0, 5.0).run()
    late = simulated(replica(ONE_BY_ONE), 300.0, 5.0, timeout=0.3).run()
    assert Status.QUEUE_FULL in {each.status for each in full.outcomes}
    assert Status.TOO_LATE in {each.status for each in late.outcomes}
    answered = [each.ended - each.arrived for each in late.outcomes if each.status is Status.ANSWERED]
    assert max(answered) <= 0.3 + 0.010


def test_whose_time_runs_out_in_the_queue_leaves_it() -> None:
    at_once = [Arrival(0.001 * number, "caption", "m", number, 6, 1) for number in range(20)]
    run = Simulation(replica(ONE_BY_ONE), 1, RoundRobin(), [*at_once, Arrival(3.0, "caption", "m", 99, 6, 1)], timeout=0.055).run()
    assert {each.status for each in run.outcomes} == {Status.ANSWERED, Status.LATE}
    assert [run.samples[place].waiting for place in (0, 2)] == [0, 0]


def test_batches_carry_more_than_one_by_one() -> None:
    answered = [1 - simulated(replica(each), 200.0, 10.0, (10,)).run().between(2, 10).lost for each in (ONE_BY_ONE, SEVERAL)]
    assert answered[1] > 5 * answered[0]


def test_two_workers_share_the_requests() -> None:
    one, two = (simulated(replica(ONE_BY_ONE, workers=count, queue=10_000), 150.0, 10.0).run() for count in (1, 2))
    assert two.latency(0.95) < 0.1
    assert one.latency(0.95) > 1.0


def test_pictures_that_were_seen_are_not_encoded_again() -> None:
    asked = [Arrival(float(number), "caption", "m", picture=number % 2, prompt=6, written=1) for number in range(6)]
    run = Simulation(replica(SEVERAL), 1, RoundRobin(), asked).run()
    took = [each.ended - each.arrived for each in run.outcomes]
    assert took == pytest.approx([0.012, 0.012, 0.010, 0.010, 0.010, 0.010])
    assert (run.samples[-1].asked, run.samples[-1].hits) == (6, 4)


def test_the_cache_gives_up_what_was_not_asked_for_longest() -> None:
    small = replace(SEVERAL, kept_pictures=2)
    asked = [Arrival(float(place), "caption", "m", picture, 6, 1) for place, picture in enumerate((1, 2, 3, 1))]
    run = Simulation(replica(small), 1, RoundRobin(), asked).run()
    assert run.samples[-1].hits == 0


def members(count: int) -> list[Pod]:
    return [Pod(number) for number in range(count)]


def owners(router: Router, pods: list[Pod]) -> list[int]:
    return [pods[router.choose(pods, key)].number for key in range(4000)]


def test_a_new_replica_takes_only_its_share_of_the_pictures() -> None:
    before, after = owners(ByPicture(), members(9)), owners(ByPicture(), members(10))
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {9}
    assert len(moved) / 4000 == pytest.approx(1 / 10, abs=0.04)


def test_who_is_too_busy_passes_his_pictures_on() -> None:
    pods = members(4)
    ring = ByPicture()
    first = ring.choose(pods, 7)
    pods[first].in_flight = 10
    assert ring.choose(pods, 7) != first
    for pod in pods:
        pod.in_flight = 10
    assert ring.choose(pods, 7) == first


def test_a_replica_that_is_gone_is_not_chosen() -> None:
    ring, pods = ByPicture(), members(4)
    owners(ring, pods)
    assert set(owners(ring, pods[:3])) == {0, 1, 2}


def test_the_other_routers_spread() -> None:
    assert owners(RoundRobin(), members(3))[:4] == [0, 1, 2, 0]
    counts = [owners(AtRandom(), members(4)).count(number) for number in range(4)]
    assert min(counts) > 900
    assert LeastBusy().choose([Pod(0, 3), Pod(1, 1), Pod(2, 2)], 0) == 1


WAITING = Goal(Counted.WAITING, 2.0)


def looks(waiting: int, seconds: int, running: int = 0, rate: int = 0) -> list[Seen]:
    return [Seen(float(time), waiting, running, rate * time) for time in range(seconds)]


def test_the_autoscaler_asks_for_what_the_mean_says() -> None:
    scaler = Autoscaler(ScalingRules((WAITING,), 1, 100))
    assert scaler.decide(200.0, looks(12, 200), wanted=4) == 6
    assert Autoscaler(ScalingRules((WAITING,), 1, 100)).decide(200.0, looks(8, 200), wanted=4) == 4
    both = ScalingRules((WAITING, Goal(Counted.ANSWERS, 10.0), Goal(Counted.IN_FLIGHT, 5.0)), 1, 100)
    assert Autoscaler(both).decide(200.0, looks(12, 200, running=10, rate=75), wanted=4) == 8


def test_the_autoscaler_does_not_see_what_is_newer_than_its_delay() -> None:
    rules = ScalingRules((WAITING,), 1, 100, over=30.0, delay=20.0)
    seen = [*looks(8, 180), *(Seen(float(time), 500, 0, 0) for time in range(181, 200))]
    assert Autoscaler(rules).decide(200.0, seen, wanted=4) == 4
    assert Autoscaler(rules).decide(215.0, seen, wanted=4) == 8


def test_the_autoscaler_takes_pods_away_only_after_its_window() -> None:
    scaler = Autoscaler(ScalingRules((WAITING,), 2, 100, window=300.0))
    wishes = [scaler.decide(float(now), looks(2, now), wanted=10) for now in range(100, 475, 15)]
    assert wishes[:20] == [10] * 20
    assert wishes[-1] == 2


def test_new_pods_take_requests_only_after_their_start() -> None:
    rules = ScalingRules((Goal(Counted.ANSWERS, 30.0),), 1, 4, over=20.0, delay=5.0, start_up=40.0)
    requests = arrivals(steady(90.0), [kind()], Fresh(), 150.0, 1)
    run = Simulation(replica(ONE_BY_ONE, queue=10_000), 1, RoundRobin(), requests, Autoscaler(rules)).run()
    asked_for = next(each.time for each in run.samples if each.wanted > 1)
    there = next(each.time for each in run.samples if each.ready > 1)
    assert there - asked_for == pytest.approx(40.0, abs=1.5)
    assert run.samples[-1].ready >= 3
    assert run.in_flight == 0


def test_whoever_leaves_ends_what_it_has() -> None:
    rules = ScalingRules((Goal(Counted.ANSWERS, 1000.0),), 1, 8, over=10.0, delay=0.0, window=30.0)
    run = Simulation(replica(ONE_BY_ONE), 4, LeastBusy(), arrivals(steady(50.0), [kind()], Fresh(), 90.0, 1), Autoscaler(rules)).run()
    assert (run.samples[0].ready, run.samples[-1].ready) == (4, 1)
    assert all(each.status is Status.ANSWERED for each in run.outcomes)
    assert len(run.outcomes) == run.arrived


def test_head_room_follows_from_the_lag() -> None:
    rules = ScalingRules((), 1, 1, sync=10.0, over=40.0, delay=15.0, start_up=60.0)
    assert lag(rules) == 20.0 + 15.0 + 5.0 + 60.0
    assert most_utilisation(100.0, doubles_in=300.0) == pytest.approx(0.75)


def test_arrivals_follow_their_profile() -> None:
    assert len(list(arrivals(steady(100.0), [kind()], Fresh(), 100.0, 1))) == pytest.approx(10_000, rel=0.05)
    climbing = [each.time for each in arrivals(ramp(0.0, 100.0, 50.0, 1e-9), [kind()], Fresh(), 100.0, 1)]
    assert min(climbing) >= 50.0
    assert (daily(10.0, 0.5, day=100.0).at(50.0), daily(10.0, 0.5, day=100.0).at(0.0)) == (15.0, 5.0)
    assert [bursts(10.0, 3.0, every=60.0, lasts=10.0).at(now) for now in (5.0, 15.0, 65.0)] == [30.0, 10.0, 30.0]


def test_kinds_come_by_their_shares_and_lengths() -> None:
    kinds = [replace(kind((3,)), share=0.25), Kind("answer", 0.75, "m", (8, 9), (1, 2))]
    seen = list(arrivals(steady(1000.0), kinds, Fresh(), 10.0, 1))
    answers = [each for each in seen if each.kind == "answer"]
    assert len(answers) / len(seen) == pytest.approx(0.75, abs=0.03)
    assert {(each.prompt, each.written) for each in answers} == {(8, 1), (8, 2), (9, 1), (9, 2)}


def test_pictures_come_again_as_they_should() -> None:
    chance = random.Random(1)
    popular = Popular(1000, share=0.5)
    chosen = [popular.choose(0.0, chance) for _ in range(4000)]
    assert sum(each >= 0 for each in chosen) / 4000 == pytest.approx(0.5, abs=0.03)
    assert chosen.count(0) > chosen.count(9) > 0
    assert len({each for each in chosen if each < 0}) == sum(each < 0 for each in chosen)
    sittings = Sittings(questions=4.0, pause=10.0)
    shown = [sittings.choose(number / 10, chance) for number in range(4000)]
    assert 4000 / len(set(shown)) == pytest.approx(4.0, rel=0.15)


def test_a_line_is_found_through_steps_and_whoever_stood_still_is_left_out() -> None:
    points = [(size, 0.002 + 0.001 * size) for size in (1, 2, 4, 8) for _ in range(5)]
    line = fitted([*points, (4, 3.0)])
    assert [line.fixed, line.each] == pytest.approx([0.002, 0.001])
    assert fitted([(3, 0.03), (3, 0.03)]).of(6) == pytest.approx(0.06)


def test_computed_figures_scale_with_the_efficiency_and_say_what_they_are() -> None:
    host = Host(0.001, 0.01, 4)
    whole, half = computed(224, 1.0, host), computed(224, 0.5, host)
    one, other = whole.instances["paligemma-224"], half.instances["paligemma-224"]
    assert one.vision.of(1) + one.prefill.of(272) == pytest.approx(0.00164, rel=0.05)
    assert other.vision.of(3) == pytest.approx(2 * one.vision.of(3))
    assert half.origin.startswith("computed")


def test_service_times_are_read_as_they_were_written(tmp_path: Path) -> None:
    times = replica(SEVERAL, workers=3, facts={"steps": 5})
    times.save(tmp_path / "times.json")
    assert ReplicaTimes.load(tmp_path / "times.json") == times


def test_figures_of_a_run_are_those_of_the_time_asked_for() -> None:
    run: Run = simulated(replica(ONE_BY_ONE), 50.0, 20.0).run()
    part = run.between(5.0, 15.0)
    assert part.rate == pytest.approx(50.0, rel=0.15)
    assert part.lost == 0.0
    assert part.stepped == pytest.approx(0.5, rel=0.15)
    assert list(islice((each.time for each in part.samples), 2)) == [5.0, 6.0]


def test_the_autoscaler_at_most_doubles_in_its_period() -> None:
    scaler = Autoscaler(ScalingRules((WAITING,), 1, 100, period=60.0, more=2))
    wanted, followed = 4, []
    for now in range(200, 320, 15):
        wanted = scaler.decide(float(now), looks(500, now), wanted)
        followed.append(wanted)
    assert followed == [8, 8, 8, 8, 16, 16, 16, 16]
