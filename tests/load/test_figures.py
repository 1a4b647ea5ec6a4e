"""What the figures are made of: a check that could not fail, or a table that lost a line, would be no figure."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.load import figures, swaps
from tests.load.figures import Figure

MIB = 1 << 20


def test_a_leak_is_found_in_noise_and_its_absence_too() -> None:
    random = np.random.default_rng(3)
    steady = 100 * MIB + random.normal(0, MIB / 2, 1_000)
    peaked = steady + np.where(random.random(1_000) > 0.95, 20 * MIB, 0)
    leaking = steady + np.arange(1_000) * (64 << 10)
    assert abs(swaps.slope(steady)) < 0.1
    assert abs(swaps.slope(peaked)) < 0.1
    assert swaps.slope(leaking) == pytest.approx(100 * 64 / 1024, rel=0.05)


def test_a_bar_is_met_or_missed_and_nothing_measured_is_missed() -> None:
    assert figures.at_least("", 60.0, "%", 60).met
    assert not figures.at_least("", 59.9, "%", 60).met
    assert figures.under("", 4.9, "ms", 5).met
    assert not figures.under("", 5.0, "ms", 5).met
    nothing = figures.under("", float("nan"), "ms", 5)
    assert not nothing.met
    assert nothing.measured == "nothing"
    assert [figures.none_of("", number).met for number in (0, 1)] == [True, False]


def test_figures_replace_those_of_the_last_run_and_leave_the_rest_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n\n{figures.BEGIN}\nold\n{figures.END}\n\nAfter\n", "utf-8")
    for value in (1.0, 2.0):
        figures.write_page([figures.under("a wait", value, "ms", 1.5), Figure("a rate", 12_345.6, "/s", note="as seen")], page)
    text = page.read_text("utf-8")
    assert text.startswith(f"# Before\n\n{figures.BEGIN}\n")
    assert text.endswith(f"{figures.END}\n\nAfter\n")
    assert "|  | a wait | 2 ms | under 1.5 ms: missed |  |" in text
    assert "|  | a rate | 12,346 /s |  | as seen |" in text
    assert text.count("a wait") == 1
    with pytest.raises(ValueError, match="has no place"):
        figures.write_page([], _written(tmp_path / "other.md", "nothing"))


def test_figures_as_json_keep_their_numbers(tmp_path: Path) -> None:
    figures.write_json([Figure("a rate", 12_345.6, "/s")], tmp_path / "figures.json")
    assert json.loads((tmp_path / "figures.json").read_text("utf-8"))["figures"][0]["value"] == 12_345.6


def test_the_page_of_this_repository_has_a_place_for_figures() -> None:
    text = figures.PAGE.read_text("utf-8")
    assert text.index(figures.BEGIN) < text.index(figures.END)


def _written(place: Path, text: str) -> Path:
    place.write_text(text, "utf-8")
    return place
