"""Which stages are measured in which order, and what is kept of them."""

from dataclasses import dataclass, field

from load_tests.rivals.contest import FIXED, LITSERVE, LOCK, OURS, Contest, Run, Stage
from load_tests.rivals.figures import Open, Waste, same_texts, waste

HEADLINE = 32
LOADS = (0.5, 0.8, 1.2)


@dataclass(frozen=True, slots=True)
class Turn:
    """One stage, and the servers that take turns in it."""

    stage: Stage
    servers: tuple[str, ...]
    rounds: int


@dataclass(frozen=True, slots=True)
class OpenPlan:
    """An open loop with a deadline in seconds, measured from second to second for each of ``LOADS``."""

    deadline: float
    seconds: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is done with one model."""

    warm_up: int
    turns: tuple[tuple[Turn, ...], ...]
    """Turns of a group alternate, round by round."""
    open: OpenPlan | None = None


@dataclass(slots=True)
class Outcome:
    """All that was seen of one model. ``texts``: equal ones and compared ones with each rival."""

    runs: list[Run] = field(default_factory=list)
    open: list[tuple[str, float, Open]] = field(default_factory=list)
    texts: dict[str, tuple[int, int]] = field(default_factory=dict)
    differing: list[dict[str, str]] = field(default_factory=list)
    waste: Waste | None = None
    idle_cpu: dict[str, float] = field(default_factory=dict)
    repeated: int = 0
    capacity: float = 0.0

    def of(self, server: str, concurrent: int, per_image: int = 1) -> list[Run]:
        """The runs of a server in a stage, by round."""
        return [run for run in self.runs if (run.server, run.stage.concurrent, run.stage.per_image) == (server, concurrent, per_image)]


def plan(model: str, quick: bool) -> Plan:
    """The whole plans take about six minutes (embedded) and nine (medium) on four cores, the quick ones one and two."""
    if model == "embedded":
        seconds, rounds = (2.0, 1) if quick else (5.0, 3)
        headline, single = Stage(HEADLINE, seconds=seconds), Stage(1, seconds=seconds / 2, least=8)
        groups = [
            (Turn(headline, (OURS, LOCK, LITSERVE, FIXED), rounds), Turn(Stage(HEADLINE, 8, seconds), (OURS,), rounds)),
            (Turn(single, (OURS, LOCK, LITSERVE), rounds),),
        ]
        if not quick:
            groups += [(Turn(Stage(concurrent, seconds=seconds), (OURS, LOCK, LITSERVE), 1),) for concurrent in (8, 64)]
        opening = OpenPlan(2.0, ((2.0, 6.0),) * 3 if quick else ((3.0, 13.0), (3.0, 13.0), (12.0, 32.0)))
        return Plan(32, tuple(groups), opening)
    rounds, least = (1, 16) if quick else (3, 32)
    headline, single = Stage(HEADLINE, 1, 5.0, least, 16), Stage(1, 1, 5.0, 3 if quick else 6)
    if quick:
        return Plan(4, ((Turn(headline, (OURS, LITSERVE), 1),),))
    return Plan(
        4,
        (
            (
                Turn(headline, (OURS, LITSERVE), rounds),
                Turn(headline, (FIXED,), 1),
                Turn(Stage(HEADLINE, 8, 5.0, least, 16), (OURS,), 2),
            ),
            (Turn(single, (OURS, LOCK), 2),),
        ),
    )


def carry_out(contest: Contest, wanted: Plan) -> Outcome:
    """Measure everything in the plan's order."""
    outcome = Outcome()
    contest.warm_up(wanted.warm_up)
    outcome.idle_cpu = dict(contest.idle_cpu)
    serial = 0
    for group in wanted.turns:
        for turn in range(max(each.rounds for each in group)):
            serial += 1
            for each in group:
                for server in each.servers if turn < each.rounds else ():
                    run = contest.run(server, each.stage, serial)
                    _show(contest.model, run)
                    outcome.runs.append(run)
    _compare_texts(outcome)
    batches = [reply for run in outcome.of(LITSERVE, HEADLINE) for reply in run.replies]
    outcome.waste = waste(batches) if batches else None
    if wanted.open is not None:
        _open_loops(contest, wanted.open, outcome)
    outcome.repeated = contest.repeated
    return outcome


def _open_loops(contest: Contest, wanted: OpenPlan, outcome: Outcome) -> None:
    rates = sorted(run.figures.rate for run in outcome.of(OURS, HEADLINE))
    outcome.capacity = rates[len(rates) // 2]
    for server in (OURS, LITSERVE):
        for load, seconds in zip(LOADS, wanted.seconds, strict=True):
            figures = contest.run_open(server, load * outcome.capacity, seconds, wanted.deadline)
            numbers = f"{figures.good:.1f} of {figures.offered:.1f}/s in time"
            print(f"{contest.model}: {server} at {load:.0%} of our capacity: {numbers}", flush=True)
            outcome.open.append((server, load, figures))


def _compare_texts(outcome: Outcome) -> None:
    """Ours with each rival's, round by round; the requests of a round are the same for all."""
    ours = {(run.asked, run.stage): run.replies for run in outcome.runs if run.server == OURS}
    for run in outcome.runs:
        if run.server == OURS or (run.asked, run.stage) not in ours:
            continue
        mine = ours[run.asked, run.stage]
        same, compared = same_texts(mine, run.replies)
        before = outcome.texts.get(run.server, (0, 0))
        outcome.texts[run.server] = (before[0] + same, before[1] + compared)
        texts = {reply.index: reply.fields.get("text", "") for reply in mine}
        for reply in run.replies:
            theirs = reply.fields.get("text", "")
            if len(outcome.differing) < 20 and texts.get(reply.index, theirs) != theirs:
                outcome.differing.append({"rival": run.server, "ours": texts[reply.index], "theirs": theirs})


def _show(model: str, run: Run) -> None:
    figures, stage = run.figures, run.stage
    about = f"{stage.concurrent} at once" + (f", {stage.per_image} questions per image" if stage.per_image > 1 else "")
    numbers = f"{figures.rate:.2f} requests/s, p50 {figures.p50:.2f} s, p95 {figures.p95:.2f} s, {figures.failed} failed"
    print(f"{model}: {run.server}, {about}: {numbers}; standstill {run.disturbance.standstill:.2f} s", flush=True)
