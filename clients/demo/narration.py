"""What the demo says: headings, facts, progress bars on a terminal and plain lines elsewhere. Knows nothing of the story."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

Item = TypeVar("Item")


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

    def table(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Two columns: what, and how much."""
        if not self._console.is_terminal:
            width = max(len(what) for what, _ in rows)
            self._console.print(f"\n{title}")
            for what, value in rows:
                self._console.print(f"   {what:{width}}  {value}", markup=False)
            return
        table = Table(title=title, title_justify="left", show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for what, value in rows:
            table.add_row(what, Text(value))
        self._console.print()
        self._console.print(table)
