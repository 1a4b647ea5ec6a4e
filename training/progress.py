"""What a long run says while it runs: the call a pipeline makes, and how it looks on a terminal and in a log."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

Progress: TypeAlias = Callable[[str, int, int], None]
"""`progress(what, done, total)`: `done` of `total` steps of `what` are behind us."""


@contextmanager
def on(stream: TextIO) -> Iterator[Progress]:
    """Progress as bars where `stream` is a terminal, else one plain line when something starts and one when it is done."""
    if not stream.isatty():
        yield lambda what, done, total: _line(stream, what, done, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(file=stream)) as bars:
        tasks: dict[str, TaskID] = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield advance


def _line(stream: TextIO, what: str, done: int, total: int) -> None:
    if done in {0, total}:
        stream.write(f"{what}: {'done' if done else 'started'}\n")
        stream.flush()
