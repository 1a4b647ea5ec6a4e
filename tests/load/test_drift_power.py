"""The drift alarm on a few hundred simulated windows; thousands of them: `python -m tests.load.drift_power --write`."""

from pathlib import Path

import numpy as np
import pytest

from registry.drift_limits import DEFAULT_LIMITS
from tests.load import drift_power, drift_report
from tests.load.drift_population import CHANGES, COLUMNS, count, shifted, window
from tests.load.drift_population import profile as profile_of
from tests.load.drift_simulation import NOTHING, Outcome, Scenario, judge

RATE = DEFAULT_LIMITS.false_discovery_rate


@pytest.mark.parametrize(("windows", "reference", "correlation"), [(300, 2000, 0.0), (100, 2000, 0.5), (100, 200, 0.0)])
def test_no_more_false_alarms_than_the_limits_name(windows: int, reference: int, correlation: float) -> None:
    for outcome in judge(Scenario(reference, correlation, (500, 5000)), windows, (), np.random.default_rng(reference)):
        assert outcome.drifted.interval[0] <= RATE, outcome
        assert outcome.twice.interval[0] <= RATE, outcome


def test_half_a_deviation_is_found_in_windows_of_500_rows() -> None:
    *_, found = judge(Scenario(2000, 0.0, (500,)), 300, (shifted(0.5),), np.random.default_rng(1))
    assert found.drifted.of == 60
    assert found.drifted.value > 0.9
    assert found.twice.value > 0.9


def test_windows_drawn_as_counts_are_those_of_values() -> None:
    generator = np.random.default_rng(2)
    reference = profile_of(COLUMNS, 5000, 0.0, generator)
    many = window(COLUMNS, reference, 400_000, 0.0, generator)
    for column, feature, counts in zip(COLUMNS, reference.features, many, strict=True):
        values = count(feature, column.values(generator.standard_normal(400_000), generator))
        assert np.abs(values - counts).max() / 400_000 < 0.005, column.name


def test_what_was_found_stands_between_the_marks_of_the_page_and_in_a_chart(tmp_path: Path) -> None:
    outcomes: list[Outcome] = judge(Scenario(200, 0.0, (500,)), 10, CHANGES, np.random.default_rng(3))
    page, chart = tmp_path / "drift.md", tmp_path / "drift.svg"
    page.write_text(f"before\n{drift_report.BEGIN}\nold\n{drift_report.END}\nafter\n", "utf-8")
    drift_report.write_page(outcomes, 3, page, chart)
    text = page.read_text("utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| missing from 1 % to 15 % |" in text
    assert chart.read_text("utf-8").startswith("<svg")
    page.write_text("no marks", "utf-8")
    with pytest.raises(ValueError, match="no place for figures"):
        drift_report.write_page(outcomes, 3, page, chart)


def test_the_command_fails_where_few_windows_leave_the_rate_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_power, "SCENARIOS", (Scenario(200, 0.0, (500,)),))
    assert drift_power.main(["--windows", "10", "--json", str(tmp_path / "found.json")]) == 1
    assert f'"what": "{NOTHING}"' in (tmp_path / "found.json").read_text("utf-8")
