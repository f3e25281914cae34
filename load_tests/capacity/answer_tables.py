"""The answers in words."""

from load_tests.capacity.answering import THROUGHPUT_REPLICAS, Answers
from load_tests.capacity.autoscaler import ScalingRules
from load_tests.capacity.fleets import ZONES
from load_tests.capacity.hashing import BUSY, CROWDS
from load_tests.capacity.prefill_steps import LOAD
from load_tests.capacity.scaling import SIDE, Climb, lag, most_utilisation, told_goals
from load_tests.capacity.service_times import TEXT_TOKENS
from load_tests.capacity.workload import CORES, EFFICIENCY, LENGTHS, MEGAPIXEL_SECONDS, MOST_LOST, TARGET, host
from load_tests.report import table

SHOWN_GAUGES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def text(answers: Answers) -> str:
    """The page."""
    return "\n\n".join(
        [
            "# How many replicas\n\n**Computed, not measured**: no accelerator was at hand.",
            _assumptions(),
            f"## One replica\n\nCapacity: {_capacities(answers)}.",
            "![Latency and gauges by load](capacity-load.png)",
            table(("side", "load", "p50, s", "p95, s", "waiting a pod", "running a pod", "device busy"), _gauges(answers)),
            "The device is busy at little load already, because one decode step follows another while anybody writes: its utilisation says "
            "nothing about how much more it could do.",
            f"## Demand\n\nThe fewest replicas, one H100 each, with p95 ≤ {TARGET:g} s and at most {MOST_LOST:.1%} lost, and as many as "
            f"still carry it when one of {ZONES} zones is lost (at least one more).",
            table(
                ("side", "part of roofline", "requests/s", "gateway", "replicas", "used to", "p95, s", "with a zone lost", "used to"),
                _fleets(answers),
            ),
            "## Tokens of a prefill step",
            table(
                ("side", "tokens", "prompts in a step", "requests/s", "step, ms", f"p50 at {LOAD:.0%}, s", f"p95 at {LOAD:.0%}, s"),
                _bounds(answers),
            ),
            f"## Autoscaling\n\n{_scaling_told()}",
            table(
                (
                    "side",
                    "goal",
                    "load doubles in, s",
                    "pod starts in, s",
                    "pods may double in, s",
                    "p95, worst ½ minute, s",
                    "lost",
                    "pods paid ÷ needed",
                ),
                _climbs(answers),
            ),
            "![Replicas in a ramp](capacity-ramp.png)",
            f"Bursts of 10 s in every minute, to a fleet of four that does not grow, at {SIDE} px:",
            table(("times the load", "highest load before a burst that holds", "p95, s"), _bursts(answers)),
            f"## Each picture to its own replica\n\nAt {BUSY:.0%} of the capacity, {answers.capacities[224]:.0f} requests/s at 224 px. "
            "Consistent hashing with bounded load (1.25 times the mean) against the least busy replica.",
            table(
                (
                    "crowd",
                    "cache of a replica",
                    "replicas",
                    "hits, least busy",
                    "hits, by picture",
                    "p95, least busy, s",
                    "p95, by picture, s",
                ),
                _hits(answers),
            ),
            "![Vision-cache hits](capacity-hashing.png)",
            f"Throughput of {THROUGHPUT_REPLICAS} replicas that are asked for too much, to that of as many without a hit:",
            table(("crowd", "cache of a replica", "least busy", "by picture"), _gains(answers)),
        ]
    )


def _assumptions() -> str:
    lengths = ", ".join(f"{task} {share:.0%} with {min(written)} to {max(written)} tokens" for task, (share, written) in LENGTHS.items())
    front = 1000 * host().request
    return (
        f"PaliGemma 1 3B in bfloat16 on an H100 that reaches {EFFICIENCY:.0%} of its roofline in every phase (`EFFICIENCY`, assumed), with "
        f"the engine's own scheduler and policy. {TEXT_TOKENS} text tokens; {lengths}; every picture a new one where nothing else is said. "
        f"Beside it {CORES} processor cores, {front:.1f} ms of the event loop for a request (`make bench-front-end`) and "
        f"{1000 * MEGAPIXEL_SECONDS:.1f} ms of a core to decode a JPEG of a megapixel (`make bench-scaled-decoding`). How well the "
        "simulation follows a real server: [capacity-check.md](capacity-check.md)."
    )


def _capacities(answers: Answers) -> str:
    return ", ".join(
        f"**{each:.0f} requests/s at {side} px** ({each * MEGAPIXEL_SECONDS:.1f} cores to decode a megapixel each)"
        for side, each in answers.capacities.items()
    )


def _gauges(answers: Answers) -> list[tuple[str, ...]]:
    return [
        (
            f"{side}",
            f"{each.load:.0%}",
            f"{each.p50:.2f}",
            f"{each.p95:.2f}",
            f"{each.waiting:.1f}",
            f"{each.running:.1f}",
            f"{each.device_busy:.0%}",
        )
        for side, points in answers.points.items()
        for each in points
        if each.replicas == 4 and each.load in SHOWN_GAUGES
    ]


def _fleets(answers: Answers) -> list[tuple[str, ...]]:
    found = sorted(
        answers.fleets, key=lambda each: (each.side, -(each.efficiency == EFFICIENCY), each.efficiency, each.demand, each.router)
    )
    return [
        (
            f"{each.side}", f"{each.efficiency:.0%}", f"{each.demand:,}", each.router, f"{each.replicas}", f"{each.utilisation:.0%}",
            f"{each.p95:.2f}", f"**{each.with_a_zone_lost}**", f"{each.utilisation * each.replicas / each.with_a_zone_lost:.0%}",
        )
        for each in found
    ]  # fmt: skip


def _bounds(answers: Answers) -> list[tuple[str, ...]]:
    return [
        (
            f"{each.side}",
            f"{each.tokens}",
            f"{each.prompts}",
            f"{each.capacity:.0f}",
            f"{1000 * each.pause:.0f}",
            f"{each.p50:.2f}",
            f"{each.p95:.2f}",
        )
        for each in answers.bounds
    ]


def _scaling_told() -> str:
    rules = ScalingRules((), 1, 1)
    seconds = lag(rules)
    shares = ", ".join(f"{most_utilisation(seconds, each):.0%} where it takes {each:g} s" for each in (150.0, 300.0, 600.0))
    return (
        f"A HorizontalPodAutoscaler that decides every {rules.sync:g} s on means of {rules.over:g} s, {rules.delay:g} s late, with "
        f"Kubernetes' default policies, and pods that are ready {rules.start_up:g} s after they are asked for: {seconds:.0f} s from a "
        f"demand to the pods for it. Before a ramp that doubles the load, pods may be used to {shares} (1 ÷ (1 + lag ÷ time to double)). "
        f"Simulated: a ramp to three times the load, behind a gateway that knows who is least busy. Requests have 10 s; bold is what holds."
    )


def _climbs(answers: Answers) -> list[tuple[str, ...]]:
    return [
        (
            f"{each.side}", told_goals(each), f"{each.doubles_in:g}", f"{each.start_up:g}", f"{each.period:g}",
            f"**{each.p95:.2f}**" if each.holds else f"{each.p95:.2f}", f"{each.lost:.1%}", f"{each.paid:.2f}",
        )
        for each in answers.climbs
    ]  # fmt: skip


def shown_climbs(answers: Answers) -> list[Climb]:
    """Answers, the queue with two targets, and both together."""
    return [answers.climbs[place] for place in (1, 3, 5, 8)]


def _bursts(answers: Answers) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for factor in sorted({each.factor for each in answers.bursts}):
        held = [each for each in answers.bursts if each.factor == factor and each.holds]
        best = max(held, key=lambda each: each.load, default=None)
        rows.append((f"{factor:g}", f"{best.load:.0%}" if best else "none of those tried", f"{best.p95:.2f}" if best else "–"))
    return rows


def _hits(answers: Answers) -> list[tuple[str, ...]]:
    found = {(each.crowd, each.cache_bytes, each.replicas, each.router): each for each in answers.hits}
    rows: list[tuple[str, ...]] = []
    for crowd, size, count in sorted({key[:3] for key in found}):
        least, by = found[crowd, size, count, "least busy"], found[crowd, size, count, "by picture"]
        rows.append(
            (crowd, f"{size / 1e9:g} GB", f"{count}", f"{least.hits:.0%}", f"**{by.hits:.0%}**", f"{least.p95:.2f}", f"{by.p95:.2f}")
        )
    return rows


def _gains(answers: Answers) -> list[tuple[str, ...]]:
    found = {(crowd, size, router): gain for crowd, router, size, gain in answers.gains}
    return [
        (crowd, f"{size / 1e9:g} GB", f"{found[crowd, size, 'least busy']:.2f}", f"**{found[crowd, size, 'by picture']:.2f}**")
        for crowd in CROWDS
        for size in sorted({key[1] for key in found})
    ]
