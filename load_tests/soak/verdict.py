"""What a soak must show, and whether it did."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from load_tests.soak.census import Holding, total
from load_tests.soak.soaking import Look, Soak
from load_tests.soak.visitors import Outcome

MOST_GROWTH = 0.02
SETTLED = 60.0
"""Seconds after which memory may grow no more; of a shorter run, a third of it."""

WINDOW = 0.1
"""The part of the run whose median is compared."""

SLACK = 2
"""Files and threads by which two looks at an idle server may differ: a scrape's connection, a pool's last thread."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table."""

    what: str
    found: str
    wanted: str
    holds: bool


def grown(soak: Soak, of: Callable[[Look], int]) -> tuple[float, float]:
    """Bytes once it had settled, and at the end: medians of a tenth of the run each."""
    window = WINDOW * soak.seconds
    settled = min(SETTLED, soak.seconds / 3)
    first = [of(look) for look in soak.looks if settled <= look.moment < settled + window]
    last = [of(look) for look in soak.looks if look.moment >= soak.seconds - window]
    return median(first), median(last)


def findings(soak: Soak) -> list[Finding]:
    """All of them."""
    if soak.before is None or soak.after is None:
        raise RuntimeError("the soak was not finished")
    rows = [_growth(soak, "RSS", lambda look: look.whole.rss), _growth(soak, "PSS", lambda look: look.whole.pss)]
    before, after = soak.before.whole, soak.after.whole
    rows += [_kept(what, read(before), read(after)) for what, read in _COUNTED]
    rows.append(_kept("tasks of the event loop", soak.before.tasks, soak.after.tasks))
    failures = total(soak.metrics, "paliserve_requests_total", 'code="internal"')
    rows.append(Finding("answers with code internal", f"{failures:.0f}", "0", failures == 0))
    unexplained = soak.outcome(Outcome.UNEXPLAINED)
    rows.append(
        Finding("replies that nobody asked for (5xx but an overload's, broken connections)", str(unexplained), "0", not unexplained)
    )
    return [*rows, *_books(soak)]


_COUNTED: Sequence[tuple[str, Callable[[Holding], int]]] = (("open files", lambda held: held.files), ("threads", lambda held: held.threads))


def _growth(soak: Soak, kind: str, of: Callable[[Look], int]) -> Finding:
    first, last = grown(soak, of)
    share = last / first - 1
    told = f"{first / 1e6:.1f} → {last / 1e6:.1f} MB ({share:+.2%})"
    return Finding(f"{kind} of all processes", told, f"at most +{MOST_GROWTH:.0%}", share <= MOST_GROWTH)


def _kept(what: str, before: float, after: float) -> Finding:
    return Finding(
        f"{what} at rest, before and after", f"{before:.0f} → {after:.0f}", f"no more than {SLACK} more", after <= before + SLACK
    )


def _books(soak: Soak) -> list[Finding]:
    """The client's against the server's: who left may have been answered all the same."""
    answered, left = soak.outcome(Outcome.ANSWERED), soak.outcome(Outcome.LEFT)
    told = total(soak.metrics, "paliserve_requests_total", 'code="ok"')
    rows = [
        Finding("answers: clients', the server's", f"{answered}, {told:.0f}", f"up to {left} more", answered <= told <= answered + left)
    ]
    accepted = total(soak.metrics, "paliserve_generations_accepted_total")
    if accepted:
        name = "paliserve_generations_ended_total"
        outcomes = {key.partition('outcome="')[2].partition('"')[0] for key in soak.metrics if key.startswith(name + "{")}
        ended = {outcome: total(soak.metrics, name, f'outcome="{outcome}"') for outcome in sorted(outcomes)}
        told_all = " + ".join(f"{count:.0f} {outcome}" for outcome, count in ended.items())
        rows.append(Finding("generations accepted = ended", f"{accepted:.0f} = {told_all}", "equal", accepted == sum(ended.values())))
    held = total(soak.metrics, "paliserve_requests_running") + total(soak.metrics, "paliserve_requests_waiting")
    return [*rows, Finding("slots and places held at the end", f"{held:.0f}", "0", held == 0)]
