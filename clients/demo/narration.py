"""What the demo says: headings, facts, progress bars on a terminal and plain lines elsewhere. Knows nothing of the story."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

Item = TypeVar("Item")
_SHORT = 24


class Narration:
    """Speaks on one console."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._chapter = 0

    def chapter(self, title: str) -> None:
        """Begin the next numbered part."""
        self._chapter += 1
        self._console.print(f"\n[bold]{self._chapter}. {title}[/bold]")

    def say(self, line: str) -> None:
        """One fact."""
        self._console.print(f"   {line}", markup=False)

    def track(self, items: Iterable[Item], title: str, total: int) -> Iterator[Item]:
        """Yield `items`, drawing a bar if a person watches."""
        if not self._console.is_terminal:
            yield from items
            return
        columns = (TextColumn("   {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True) as progress:
            yield from progress.track(items, total=total, description=title)

    def table(self, title: str, rows: Sequence[Sequence[str]], columns: Sequence[str] = ()) -> None:
        """Rows of as many cells, under the names of their columns if they have any: on a terminal in a frame."""
        if not self._console.is_terminal:
            self._console.print(f"\n{title}")
            for line in aligned([*([columns] if columns else []), *rows]):
                self._console.print(f"   {line}", markup=False)
            return
        table = Table(title=title, title_justify="left", show_header=bool(columns), box=box.SIMPLE_HEAD if columns else box.HEAVY_HEAD)
        for place, cells in enumerate(zip(*rows, strict=True)):
            # What is short stays on one line: where there is little room, the longest text gives way, between its words.
            short, word = max(map(len, cells)) <= _SHORT, max(len(word) for cell in cells for word in cell.split())
            heading = columns[place] if columns else ""
            table.add_column(heading, no_wrap=place == 0 or short, min_width=word if columns else None, overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        self._console.print()
        self._console.print(table)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """One line per row, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
