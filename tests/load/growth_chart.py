"""How the daemon grows as a table and a chart: one panel for each thing that grows. How it is measured is said elsewhere."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from tests.load.figures import PAGE

BEGIN, END = "<!-- begin: how it grows -->", "<!-- end: how it grows -->"
CHART = PAGE.with_name("performance-growth.svg")
LIMIT = "bare HTTP/2 server"
_WIDTH, _HEIGHT = 230, 190
_COLOURS = {"native": "#1f4e79", "grpcio": "#e07b39", LIMIT: "#9aa5b1"}


@dataclass(frozen=True)
class Point:
    """`what` has this `value`; requests a second of `who`, and how long half and 99 of 100 of them take, in seconds."""

    what: str
    value: int
    who: str
    rate: float
    p50: float
    p99: float
    is_floor: bool


def write_page(points: Sequence[Point], page: Path = PAGE, chart: Path = CHART) -> None:
    """Put the table between the two marks of the page, and the chart beside it."""
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"{page} has no place for how it grows: {BEGIN} and {END}")
    drawn = f"![Requests a second against what grows, a panel for each, both axes logarithmic]({chart.name})"
    page.write_text("\n".join([f"{before}{BEGIN}", "", *table(points), "", drawn, "", f"{END}{after}"]), "utf-8")
    chart.write_text(draw(points), "utf-8")


def table(points: Sequence[Point]) -> list[str]:
    """Lines of Markdown: a line for each value, a column for each of who was asked."""
    names = [name for name in _COLOURS if any(point.who == name for point in points)]
    lines = ["| what grows | to | " + " | ".join(f"{name}, /s; p50, p99 ms" for name in names) + " |", "|---|---|" + "---|" * len(names)]
    for what, value in dict.fromkeys((point.what, point.value) for point in points):
        found = {point.who: point for point in points if (point.what, point.value) == (what, value)}
        lines.append(f"| {what} | {value:,} | " + " | ".join(_cell(found.get(name)) for name in names) + " |")
    return lines


def _cell(point: Point | None) -> str:
    if point is None:
        return ""
    return f"{'at least ' if point.is_floor else ''}{point.rate:,.0f}; {1e3 * point.p50:.3g}, {1e3 * point.p99:.3g}"


def draw(points: Sequence[Point]) -> str:
    """The chart as SVG that needs nothing from anywhere else."""
    os.environ.setdefault("DISABLE_PANDERA_IMPORT_WARNING", "True")
    import altair as alt  # noqa: PLC0415 -- slow to import, and only who writes the page waits for it
    import vl_convert  # noqa: PLC0415 -- the same

    frame = pd.DataFrame([asdict(point) for point in points])
    names = [name for name in _COLOURS if name in set(frame["who"])]
    colour = alt.Color("who:N", title=None, scale=alt.Scale(domain=names, range=[_COLOURS[name] for name in names]))
    panels = []
    for what in dict.fromkeys(frame["what"]):
        part = frame[frame["what"] == what]
        values = sorted(set(part["value"].tolist()))
        x = alt.X("value:Q", title=what, scale=alt.Scale(type="log"), axis=alt.Axis(values=values, format=",d", grid=False))
        y = alt.Y("rate:Q", title="requests a second", scale=alt.Scale(type="log"), axis=alt.Axis(format="~s", tickCount=4))
        panels.append(alt.Chart(part).mark_line(point=True).encode(x=x, y=y, color=colour).properties(width=_WIDTH, height=_HEIGHT))
    whole = alt.concat(*panels, columns=2).configure(font="sans-serif", background="white")
    return str(vl_convert.vegalite_to_svg(whole.to_json(), allowed_base_urls=[])) + "\n"
