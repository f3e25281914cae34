"""``python -m load_tests.rivals [--quick] [--only embedded|medium]``: about a quarter of an hour on four cores, or two minutes."""

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure each model and write the results."""
    # The load generator's process imports this module again, and needs nothing of it.
    from load_tests.rivals import results  # noqa: PLC0415
    from load_tests.rivals.contest import Contest  # noqa: PLC0415
    from load_tests.rivals.plans import Outcome, carry_out, plan  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="python -m load_tests.rivals")
    parser.add_argument("--quick", action="store_true", help="one short round of each; the figures mean little")
    parser.add_argument("--only", choices=["embedded", "medium"])
    parser.add_argument("--threads", type=int, default=0, help="torch's threads in the rivals; 0: torch's own choice, as in PaliServe")
    asked = parser.parse_args(arguments)
    # The servers are in groups of their own: nobody but us ends them.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    name = "rivals-quick" if asked.quick else "rivals"
    command = " ".join(["python -m load_tests.rivals", *(sys.argv[1:] if arguments is None else arguments)])
    outcomes: dict[str, Outcome] = {}
    for model in [asked.only] if asked.only else ["embedded", "medium"]:
        with tempfile.TemporaryDirectory(prefix="rivals-") as folder:
            contest = Contest(model, Path(folder), asked.threads)
            try:
                outcomes[model] = carry_out(contest, plan(model, asked.quick))
            finally:
                contest.close()
        # After each model, so that breaking off loses one at most.
        results.write(outcomes, name, command)


if __name__ == "__main__":
    main()
