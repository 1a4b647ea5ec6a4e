"""How answers are written: a table on a terminal, aligned text elsewhere, JSON when asked. Knows nothing of models."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from registry.canonical import Json

Cell: TypeAlias = "str | int | float | None"


def write_json(value: Json) -> None:
    """Write a value as indented JSON, its keys in the order given; numbers that JSON has not are refused by `ValueError`."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_json_line(value: Json) -> None:
    """Write a value as JSON in one line, at once: whoever follows a stream waits for it."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    flush()


def flush() -> None:
    """Let whoever reads have what was written so far."""
    sys.stdout.flush()


def write_line(text: str) -> None:
    """Write one line."""
    sys.stdout.write(clean(text) + "\n")


def write_document(text: str) -> None:
    """Write a document of several lines; what would steer a terminal is shown, not done."""
    for line in text.splitlines():
        write_line(line)


def write_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Write rows under column names, each row as long as `columns`."""
    texts = [[_text(cell) for cell in row] for row in rows]
    if is_terminal():
        _write_rich(columns, texts)
    else:
        _write_plain(columns, texts)


def write_facts(facts: Mapping[str, Cell]) -> None:
    """Write names and values, one a line."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        write_line(f"{name.ljust(width)}  {_text(value)}".rstrip())


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere: it is told how much is done, of how much."""
    if not is_terminal():
        yield lambda _done, _all: None
        return
    from rich.progress import Progress  # noqa: PLC0415 -- scripts never see it

    with Progress(transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def cell(value: Json) -> Cell:
    """A JSON value as one cell: nothing for null and empty text, JSON for what has parts."""
    if value is None or value == "":
        return None
    return value if isinstance(value, (str, int, float)) else json.dumps(value, ensure_ascii=False)


def is_terminal() -> bool:
    """Whether a person watches standard output."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def clean(text: str) -> str:
    """`text` on one line, without what would steer a terminal: reasons and names come from others."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode() for char in text)


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.6g}" if isinstance(cell, float) else clean(str(cell))


def _write_plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")


def _write_rich(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    # Imported here: rich takes longer to load than most commands to run, and scripts never see it.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(*columns)
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
