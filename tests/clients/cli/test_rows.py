"""Files become columns: what was written is read, and what is wrong is named with its row."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from clients.cli.errors import InputError
from clients.cli.rows import read_table

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1)
tables = st.integers(1, 5).flatmap(
    lambda rows: st.dictionaries(texts, st.lists(texts, min_size=rows, max_size=rows), min_size=1, max_size=4)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(tables)
def test_csv_gives_back_the_text_that_was_written(tmp_path: Path, table: dict[str, list[str]]) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    assert read_table(path, ()) == table


def test_csv_numbers_are_numbers_only_in_numeric_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\ufeffincome,zip\n1e3,02139\n,\n1_000,x\n", encoding="utf-8")
    assert read_table(path, ("income",)) == {"income": [1000.0, None, "1_000"], "zip": ["02139", None, "x"]}


def test_json_json_lines_and_parquet_give_the_same_columns(tmp_path: Path) -> None:
    table = {"income": [1.5, None], "kind": ["a", "b"]}
    rows = [{"income": 1.5, "kind": "a"}, {"kind": "b", "income": None}]
    (tmp_path / "columns.json").write_text(json.dumps(table))
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    parquet.write_table(pa.table(table), tmp_path / "rows.parquet")
    for name in ("columns.json", "rows.json", "rows.jsonl", "rows.parquet"):
        assert read_table(tmp_path / name, ("income",)) == table


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.csv", b"", "first line"),
        ("rows.csv", b"a,a\n1,2\n", "once"),
        ("rows.csv", b"a,b\n1,2\n1\n", "row 2 has 1 cells"),
        ("rows.csv", b'a\n"1', "unexpected end"),
        ("rows.csv", b"a\n\xff\n", "utf-8"),
        ("rows.json", b"{", "cannot be read"),
        ("rows.json", b"3", "list of objects"),
        ("rows.json", b'[{"a":1},{"b":1}]', "row 2"),
        ("rows.json", b"[" * 100_000, "cannot be read"),
        ("rows.jsonl", b'{"a":1}\n{', "cannot be read"),
        ("rows.parquet", b"not parquet", "cannot be read"),
        ("rows.xlsx", b"", "unknown kind of file"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        read_table(path, ())
    assert name in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv cannot be read"):
        read_table(tmp_path / "none.csv", ())
