"""``python -m load_tests.capacity calibrate | check | answer``."""

import argparse
import sys
from dataclasses import asdict, replace

from load_tests.capacity import answer_tables, check_tables
from load_tests.capacity.answering import answer
from load_tests.capacity.calibration import Measured, calibrate
from load_tests.capacity.checking import LOADS, check
from load_tests.capacity.plots import draw_check, draw_hashing, draw_load, draw_ramp
from load_tests.report import PACKAGES, RESULTS, publish
from service.machine import description

ROUNDS = 3
SIMPLE = ("paliserve", "numpy")


def run_calibrate(rounds: int) -> Measured:
    """The round whose capacity is the median one's is kept as ``capacity-calibration.json``."""
    return _keep([calibrate(1000 * (turn + 1)) for turn in range(rounds)])


def _keep(measured: list[Measured]) -> Measured:
    chosen = sorted(measured, key=lambda each: each.capacity)[len(measured) // 2]
    times = replace(chosen.times, facts=chosen.times.facts | {"capacity": chosen.capacity, "machine": description(PACKAGES)})
    times.save(RESULTS / "capacity-calibration.json")
    return chosen


def run_check(rounds: int) -> None:
    """Each round is calibrated anew, so that a machine that has become slower meanwhile is no difference."""
    measured, pairs = [], []
    for turn in range(rounds):
        measured.append(calibrate(1000 * (turn + 1)))
        print(f"round {turn}: capacity {measured[-1].capacity:.1f} requests/s", file=sys.stderr)
        pairs += check(measured[-1], turn)
        for pair in pairs[-len(LOADS) :]:
            print(f"round {turn}: {pair}", file=sys.stderr)
    chosen = _keep(measured)
    draw_check(pairs, RESULTS / "capacity-check.png")
    text = check_tables.text(measured, chosen, pairs)
    # Without the kinds, which hold the lengths of every single answer.
    kept = [{"times": asdict(each.times), "capacity": each.capacity, "disturbance": asdict(each.disturbance)} for each in measured]
    figures = {"rounds": kept, "pairs": [asdict(each) for each in pairs]}
    publish("capacity-check", text, "python -m load_tests.capacity check", figures)


def run_answer() -> None:
    """Tables and plots of what is computed."""
    answers = answer()
    draw_load(answers, RESULTS / "capacity-load.png")
    draw_ramp(answer_tables.shown_climbs(answers), RESULTS / "capacity-ramp.png")
    draw_hashing(answers, RESULTS / "capacity-hashing.png")
    publish("capacity", answer_tables.text(answers), "python -m load_tests.capacity answer", asdict(answers), SIMPLE, "Computed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How much traffic so many replicas carry.")
    parser.add_argument("command", choices=["calibrate", "check", "answer"])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of calibrate and check")
    asked = parser.parse_args()
    if asked.command == "calibrate":
        print(run_calibrate(asked.rounds).times)
    elif asked.command == "check":
        run_check(asked.rounds)
    else:
        run_answer()
