"""What the simulated drift alarm did, as tables on the terminal, as JSON, and as tables and a chart in docs. No simulation here."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import altair as alt
import pandas as pd
import vl_convert
from rich.console import Console
from rich.table import Table

from tests.load.drift_population import SHIFTS, shifted
from tests.load.drift_simulation import NOTHING, Outcome, Share

PAGE = Path(__file__).parents[2] / "docs" / "drift.md"
CHART = PAGE.with_name("drift-power.svg")
BEGIN, END = "<!-- begin: python -m tests.load.drift_power --write -->", "<!-- end -->"
_QUIET = ("reference rows", "correlation", "window rows", "any alarm", "two in a row", "any p < 0.05", "any PSI > 0.2", "any KS p < 0.05")
_CHANGED = ("change", "found", "two in a row", "PSI > 0.2", "KS p < 0.05")
_DRAWN_ONLY = {shifted(by).what for by in (0.2, 0.3, 0.4)}
_RULES = ("Tidegate", "PSI > 0.2", "KS p < 0.05")


def show(outcomes: Sequence[Outcome]) -> None:
    """Print both tables."""
    console = Console(width=None if os.isatty(1) else 200)
    for title, head, rows in _tables(outcomes):
        table = Table(*head, title=title, title_justify="left", box=None, pad_edge=False)
        for row in rows:
            table.add_row(*row)
        console.print(table)


def write_json(outcomes: Sequence[Outcome], seed: int, place: Path) -> None:
    """Write what was seen, in numbers."""
    place.write_text(json.dumps({"seed": seed, "outcomes": [asdict(outcome) for outcome in outcomes]}, indent=1) + "\n", "utf-8")


def write_page(outcomes: Sequence[Outcome], seed: int, page: Path = PAGE, chart: Path = CHART) -> None:
    """Put the tables between the two marks of the page, and the chart beside it."""
    text = page.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"{page} has no place for figures: {BEGIN} and {END}")
    lines = [f"Seed {seed}. In brackets: 95 % interval (Clopper-Pearson)."]
    for title, head, rows in _tables(outcomes):
        lines += ["", f"**{title}**", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    page.write_text("\n".join([f"{before}{BEGIN}", "", *lines, "", f"{END}{after}"]), "utf-8")
    chart.write_text(_drawn(outcomes), "utf-8")


def _tables(outcomes: Sequence[Outcome]) -> Iterable[tuple[str, Sequence[str], list[list[str]]]]:
    quiet = [outcome for outcome in outcomes if outcome.what == NOTHING]
    yield f"Share of {quiet[0].drifted.of:,} windows of each kind with an alarm, though nothing changed", _QUIET, [*map(_quiet, quiet)]
    changed: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.what != NOTHING and outcome.what not in _DRAWN_ONLY:
            changed.setdefault(outcome.what, []).append(outcome)
    if changed:
        first = next(iter(changed.values()))
        sizes = " / ".join(f"{outcome.rows:,}" for outcome in first)
        title = f"Share of {first[0].drifted.of:,} windows of {sizes} rows in which the change of one of twenty features was found, in %"
        yield title, _CHANGED, [*map(_changed, changed.values())]


def _quiet(outcome: Outcome) -> list[str]:
    shares = (outcome.drifted, outcome.twice, outcome.significant, outcome.psi, outcome.ks)
    scenario = outcome.scenario
    return [
        f"{scenario.reference:,}",
        f"{scenario.correlation:g}",
        f"{outcome.rows:,}",
        *map(_with_interval, shares[:3]),
        *map(_share, shares[3:]),
    ]


def _changed(sizes: Sequence[Outcome]) -> list[str]:
    """A line of one change, from windows of every size."""
    columns = zip(*((outcome.drifted, outcome.twice, outcome.psi, outcome.ks) for outcome in sizes), strict=True)
    return [sizes[0].what, *(" / ".join(f"{100 * share.value:.3g}" for share in column) for column in columns)]


def _share(share: Share) -> str:
    return f"{100 * share.value:.3g} %"


def _with_interval(share: Share) -> str:
    low, high = share.interval
    return f"{_share(share)} ({100 * low:.2g} to {100 * high:.2g})"


def _drawn(outcomes: Sequence[Outcome]) -> str:
    """Curves of power: the share found against the shift, for each rule and size of window."""
    shifts = {shifted(by).what: by for by in SHIFTS}
    frame = pd.DataFrame(
        {"shift": shifts[outcome.what], "found": share.value, "rule": rule, "rows": f"{outcome.rows:,}", "order": outcome.rows}
        for outcome in outcomes
        if outcome.what in shifts
        for rule, share in zip(_RULES, (outcome.drifted, outcome.psi, outcome.ks), strict=True)
    )
    colour = alt.Color("rows:N", title="window rows", sort=alt.SortField("order"), scale=alt.Scale(range=["#e07b39", "#5b8c5a", "#1f4e79"]))
    curves = (
        alt.Chart(frame)
        .mark_line(point=True)
        .encode(
            x=alt.X("shift:Q", title="shift in standard deviations"),
            y=alt.Y("found:Q", title="share of windows", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
            color=colour,
            column=alt.Column("rule:N", title=None, sort=list(_RULES)),
        )
        .properties(width=230, height=220, background="white", padding=12)
    )
    return str(vl_convert.vegalite_to_svg(curves.to_json())) + "\n"
