"""What a soak is judged by."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from load_tests.soak.census import Holding, holdings, total
from load_tests.soak.soaking import Look, Soak
from load_tests.soak.verdict import findings, grown
from load_tests.soak.visitors import Outcome

HELD = Holding(rss=200, pss=100, files=10, threads=5)


def look(moment: float, rss: int = 200, files: int = 10, tasks: float = 3) -> Look:
    return Look(moment, {"front": replace(HELD, rss=rss, files=files), "workers": HELD}, tasks)


def soaked(**changes: object) -> Soak:
    """A run of ten minutes in which nothing grew and nothing was lost."""
    soak = Soak(
        capacity=10, load=0.8, seconds=600, looks=[look(float(moment)) for moment in range(0, 600, 2)], before=look(0), after=look(0),
        ended=Counter({("rest", Outcome.ANSWERED.value): 7, ("leaving rest", Outcome.LEFT.value): 2}),
        metrics={'paliserve_requests_total{code="ok"}': 8.0},
    )  # fmt: skip
    for name, value in changes.items():
        setattr(soak, name, value)
    return soak


def broken(soak: Soak) -> list[str]:
    return [each.what for each in findings(soak) if not each.holds]


def test_a_server_that_stays_as_it_is_passes() -> None:
    assert broken(soaked()) == []


def test_growth_counts_from_when_it_had_settled() -> None:
    before = [look(float(moment), rss=100) for moment in range(0, 60, 2)]
    assert broken(soaked(looks=before + soaked().looks[30:])) == []
    growing = [look(float(moment), rss=200 + moment // 20) for moment in range(0, 600, 2)]
    assert grown(soaked(looks=growing), lambda each: each.whole.rss) == (404, 428)
    assert broken(soaked(looks=growing)) == ["RSS of all processes"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"after": look(0, files=13)}, "open files at rest, before and after"),
        ({"after": look(0, tasks=9)}, "tasks of the event loop at rest, before and after"),
        ({"metrics": {'paliserve_requests_total{code="ok"}': 10.0}}, "answers: clients', the server's"),
        ({"metrics": {'paliserve_requests_total{code="ok"}': 6.0}}, "answers: clients', the server's"),
    ],
)
def test_what_leaks_or_is_lost_is_found(changes: dict[str, object], what: str) -> None:
    assert broken(soaked(**changes)) == [what]


def test_generations_that_were_accepted_must_have_ended() -> None:
    counted = {
        'paliserve_requests_total{code="ok"}': 8.0,
        "paliserve_generations_accepted_total{}": 12.0,
        'paliserve_generations_ended_total{outcome="answered"}': 9.0,
        'paliserve_generations_ended_total{outcome="cancelled"}': 3.0,
    }
    assert broken(soaked(metrics=counted)) == []
    counted['paliserve_generations_ended_total{outcome="cancelled"}'] = 2.0
    assert broken(soaked(metrics=counted)) == ["generations accepted = ended"]


def test_an_answer_that_nobody_asked_for_is_found() -> None:
    ended = soaked().ended + Counter({("rest", Outcome.UNEXPLAINED.value): 1})
    assert len(broken(soaked(ended=ended))) == 1


def test_series_are_summed_by_name_and_label() -> None:
    series = {'a{x="1"}': 1.0, 'a{x="2"}': 2.0, "a_b": 4.0}
    assert (total(series, "a"), total(series, "a", 'x="2"'), total(series, "a_b")) == (3.0, 2.0, 4.0)


def test_a_group_of_processes_is_counted_whole() -> None:
    code = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start(); print(flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        held = holdings(process.pid)
        process.communicate(b"\n")
    assert set(held) == {"front"}
    assert (held["front"].threads, held["front"].files) == (2, 3)
    assert held["front"].rss >= held["front"].pss > 0
