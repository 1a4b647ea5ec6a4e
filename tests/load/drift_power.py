"""`python -m tests.load.drift_power`: how often the drift alarm is wrong when nothing changed, and how often it finds what did.

The simulation is in `drift_simulation`, tables and chart in `drift_report`. Exit code 1 if false alarms may be more frequent than the
limits say.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.load import drift_report
from tests.load.drift_population import CHANGES
from tests.load.drift_simulation import NOTHING, Outcome, Scenario, judge

SCENARIOS = (Scenario(20_000, 0.0), Scenario(2000, 0.0), Scenario(200, 0.0), Scenario(2000, 0.5, (500, 5000)))
POWER = SCENARIOS[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate and print; returns the exit code."""
    given = _parser().parse_args(argv)
    generator = np.random.default_rng(given.seed)
    found: list[Outcome] = []
    for scenario in SCENARIOS:
        print(f"{scenario.reference:,} reference rows, correlation {scenario.correlation:g} ...", file=sys.stderr, flush=True)
        found += judge(scenario, given.windows, CHANGES if scenario == POWER else (), generator)
    drift_report.show(found)
    if given.json is not None:
        drift_report.write_json(found, given.seed, given.json)
    if given.write:
        drift_report.write_page(found, given.seed)
    return int(not all(outcome.kept for outcome in found if outcome.what == NOTHING))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.load.drift_power", description="False alarms of the drift rule, and its power.")
    parser.add_argument("--windows", type=int, default=2000, help="windows of each size without drift (default 2000)")
    parser.add_argument("--seed", type=int, default=1, help="of the generator (default 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--write", action="store_true", help="put tables and chart into docs/drift.md and docs/drift-power.svg")
    return parser


if __name__ == "__main__":
    sys.exit(main())
