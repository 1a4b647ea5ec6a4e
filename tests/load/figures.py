"""What a figure is and how figures are shown: a table, JSON, a part of docs/performance.md. How they are measured is said elsewhere."""

import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- begin: python -m tests.load daemon --write -->", "<!-- end -->"
_VERDICTS = {True: "[green]met[/green]", False: "[red]MISSED[/red]", None: ""}


@dataclass(frozen=True)
class Figure:
    """One line of the table: a number with its unit, and the bar it is held to; `met` is None where there is none."""

    what: str
    value: float
    unit: str
    bar: str = ""
    met: bool | None = None
    note: str = ""
    is_floor: bool = False
    """What measured it was the limit: it may be more"""
    transport: str = ""

    @property
    def measured(self) -> str:
        """The value to three figures, or whole where it is large."""
        if math.isnan(self.value):
            return "nothing"
        number = f"{self.value:,.0f}" if abs(self.value) >= 100 or self.value == int(self.value) else f"{self.value:.3g}"
        return f"{'at least ' if self.is_floor else ''}{number} {self.unit}".strip()


def at_least(what: str, value: float, unit: str, bar: float, note: str = "") -> Figure:
    """A figure that must not be under `bar`."""
    return Figure(what, value, unit, f"at least {bar:g} {unit}".strip(), value >= bar, note)


def at_most(what: str, value: float, unit: str, bar: float, note: str = "") -> Figure:
    """A figure that must not be above `bar`; NaN is not."""
    return Figure(what, value, unit, f"at most {bar:g} {unit}".strip(), value <= bar, note)


def under(what: str, value: float, unit: str, bar: float, note: str = "") -> Figure:
    """A figure that must be under `bar`; NaN is not."""
    return Figure(what, value, unit, f"under {bar:g} {unit}".strip(), value < bar, note)


def none_of(what: str, value: int, note: str = "") -> Figure:
    """A count of what must not happen."""
    return Figure(what, value, "", "0", value == 0, note)


def show(figures: Sequence[Figure]) -> None:
    """Print the table."""
    table = Table("transport", "what", "seen", "bar", "", "remark", box=None, pad_edge=False)
    for figure in figures:
        table.add_row(figure.transport, figure.what, figure.measured, figure.bar, _VERDICTS[figure.met], figure.note)
    # A file or a pipe is as wide as it needs to be.
    Console(width=None if os.isatty(1) else 200).print(table)


def write_json(figures: Sequence[Figure], place: Path) -> None:
    """Write what was seen, and on what machine."""
    machine = {"machine": platform.machine(), "system": platform.platform(), "processor": _processor(), "python": platform.python_version()}
    place.write_text(json.dumps({**machine, "figures": [asdict(figure) for figure in figures]}, indent=1, allow_nan=True) + "\n", "utf-8")


def write_page(figures: Sequence[Figure], page: Path = PAGE) -> None:
    """Put the table between the two marks of the page."""
    text = page.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"{page} has no place for figures: {BEGIN} and {END}")
    lines = [
        f"Two cores of {_processor()}, Python {platform.python_version()}.",
        "",
        "| transport | what | seen | bar | remark |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {figure.transport} | {figure.what} | {figure.measured} | {_barred(figure)} | {figure.note} |" for figure in figures]
    page.write_text("\n".join([f"{before}{BEGIN}", "", *lines, "", f"{END}{after}"]), "utf-8")


def _barred(figure: Figure) -> str:
    return f"{figure.bar}: missed" if figure.met is False else figure.bar


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
