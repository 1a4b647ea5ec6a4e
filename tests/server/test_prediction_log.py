"""What was asked and answered can be read back by SQL, without what may not be stored, and logging never stands in the way of serving."""

import datetime as dt
import hmac
import math
import os
import stat
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.bundle import Signature, TensorSpec
from server import prediction_log
from server.errors import SettingsError
from server.log_files import LogFiles
from server.observed import LoggedBatch, LoggedRequest
from server.prediction_log import PredictionLog, open_prediction_log
from server.prediction_table import Privacy, is_in_share
from server.settings import read_settings
from tests.daemons import wait_until

KEY = b"0123456789abcdef"
EVERYTHING = Privacy()
NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC).timestamp()
PACKED = Signature(
    (TensorSpec("numeric", "FP32", (-1, 2), ("age", "income")), TensorSpec("categorical", "BYTES", (-1, 1), ("city",))),
    (TensorSpec("probabilities", "FP32", (-1, 2), ("no", "yes")), TensorSpec("label", "BYTES", (-1,))),
)


def request(prediction_id: str, rows: int, received: float = NOON, arm: str = "stable", start: int = 0) -> LoggedRequest:
    """A request that was answered."""
    return LoggedRequest(prediction_id, arm, received, rows, start)


def packed_batch(*requests: LoggedRequest, model: str = "churn", version: int = 3) -> LoggedBatch:
    """A batch in which row i, counted over all its requests, has age i, income i / 10 and city town <i>."""
    rows = sum(one.rows for one in requests)
    numbers = np.arange(rows, dtype=np.float32)
    cities = np.array([[f"town {row}".encode()] for row in range(rows)], object)
    inputs = {"numeric": np.stack([numbers, numbers / 10], 1), "categorical": cities}
    outputs = {"probabilities": np.stack([1 - numbers / 100, numbers / 100], 1), "label": np.array([b"yes"] * rows, object)}
    return LoggedBatch(model, version, PACKED, requests, rows, inputs, outputs)


def write(folder: Path, *batches: LoggedBatch, share: float = 1.0, privacy: Privacy = EVERYTHING) -> PredictionLog:
    """Log these batches and wait until they stand in files."""
    log = PredictionLog(LogFiles(folder, None, None), share=share, privacy=privacy, seconds=60)
    log.start()
    for batch in batches:
        log.offer(batch)
    log.stop()
    return log


def select(folder: Path, columns: str, order: str = "prediction_id, row") -> list[tuple[Any, ...]]:
    """Rows of the log, read as its page says."""
    query = f"SELECT {columns} FROM read_parquet('{folder}/**/*.parquet', hive_partitioning=true) ORDER BY {order}"  # noqa: S608
    found: list[tuple[Any, ...]] = duckdb.connect().execute(query).fetchall()
    return found


def columns(folder: Path) -> set[str]:
    """The columns of the files themselves."""
    return {name for path in folder.rglob("*.parquet") for name in pq.ParquetFile(path).schema_arrow.names}


def test_duckdb_reads_each_row_with_its_request_and_its_answer(tmp_path: Path) -> None:
    write(tmp_path, packed_batch(request("a", 2), request("b", 1, NOON + 1.5, "canary")))
    rows = select(tmp_path, 'prediction_id, row, model, version, arm, age, income, city, "probabilities.yes", label')
    assert [row[:6] for row in rows] == [
        ("a", 0, "churn", 3, "stable", 0.0),
        ("a", 1, "churn", 3, "stable", 1.0),
        ("b", 0, "churn", 3, "canary", 2.0),
    ]
    assert [row[6] for row in rows] == pytest.approx([0, 0.1, 0.2])
    assert [row[7:] for row in rows] == [
        ("town 0", pytest.approx(0), "yes"),
        ("town 1", pytest.approx(0.01), "yes"),
        ("town 2", pytest.approx(0.02), "yes"),
    ]
    assert [row[0] for row in select(tmp_path, "epoch_ms(time)")] == [NOON * 1000, NOON * 1000, (NOON + 1.5) * 1000]


def test_pyarrow_reads_it_too(tmp_path: Path) -> None:
    write(tmp_path, packed_batch(request("a", 2)))
    assert pyarrow.dataset.dataset(tmp_path, partitioning="hive").to_table()["age"].to_pylist() == [0, 1]


def test_rows_lie_under_model_version_and_the_day_they_were_received(tmp_path: Path) -> None:
    write(tmp_path, packed_batch(request("a", 1), request("b", 1, NOON + 86_400)), packed_batch(request("c", 1), model="other", version=7))
    folders = {path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.parquet")}
    assert folders == {
        "model=churn/version=3/date=2026-03-01",
        "model=churn/version=3/date=2026-03-02",
        "model=other/version=7/date=2026-03-01",
    }


def test_only_the_user_can_read_it(tmp_path: Path) -> None:
    write(tmp_path / "log", packed_batch(request("a", 1)))
    for path in (tmp_path / "log").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@given(st.lists(st.text(max_size=8), unique=True, max_size=40), st.floats(0, 1), st.floats(0, 1))
def test_share_is_decided_by_the_id_alone_and_a_larger_share_contains_a_smaller(ids: list[str], one: float, other: float) -> None:
    smaller, larger = sorted((one, other))
    for prediction_id in ids:
        assert is_in_share(prediction_id, 1.0)
        assert is_in_share(prediction_id, larger) or not is_in_share(prediction_id, smaller)


def test_the_rule_of_the_format_is_what_it_says() -> None:
    place = 0xE8781FA3 / 2**32  # of CRC-32's own check value, as the format names it
    assert not is_in_share("123456789", place)
    assert is_in_share("123456789", math.nextafter(place, 1))


@pytest.mark.parametrize("pattern", ["{}", "order-{:010d}", "{:08x}", "{}000", "2026-11-26T10:00:{:09.5f}Z"])
def test_ids_that_differ_little_are_chosen_as_evenly_as_by_chance(pattern: str) -> None:
    chosen = [is_in_share(pattern.format(number), 0.01) for number in range(100_000)]
    assert abs(sum(chosen) - 1000) < 4 * 990**0.5
    in_a_row = [sum(chosen[first : first + 1000]) for first in range(0, 100_000, 1000)]
    assert 0.5 < statistics.variance(in_a_row) / 9.9 < 1.6  # in units of the binomial's, which 100 samples tell to 14 %


def test_share_of_the_requests_is_logged_whole(tmp_path: Path) -> None:
    requests = [request(f"id-{number}", 2) for number in range(2000)]
    log = write(tmp_path, packed_batch(*requests), share=0.25)
    logged = {row[0] for row in select(tmp_path, "DISTINCT prediction_id", "1")}
    assert logged == {request.id for request in requests if is_in_share(request.id, 0.25)}
    assert 400 < len(logged) < 600
    assert log.counts().written == 2 * len(logged)


@pytest.mark.parametrize("name", ["income", "city", "probabilities.yes", "label", "categorical"])
def test_column_that_may_not_be_stored_is_not(tmp_path: Path, name: str) -> None:
    write(tmp_path, packed_batch(request("a", 2)), privacy=Privacy(drop=frozenset({name})))
    everything = {
        "prediction_id",
        "row",
        "model",
        "version",
        "arm",
        "time",
        "age",
        "income",
        "city",
        "probabilities.no",
        "probabilities.yes",
        "label",
    }
    assert columns(tmp_path) == everything - {name, "city" if name == "categorical" else name}


def test_hashed_column_holds_a_keyed_hash_of_text_or_number(tmp_path: Path) -> None:
    write(tmp_path, packed_batch(request("a", 2)), privacy=Privacy(hashed=frozenset({"city", "income"}), key=KEY))

    def digest(value: bytes) -> str:
        return hmac.digest(KEY, value, "sha256").hex()[:32]

    assert select(tmp_path, "city, income") == [(digest(b"town 0"), digest(b"0.0")), (digest(b"town 1"), digest(b"0.1"))]
    assert not any(b"town 1" in path.read_bytes() for path in tmp_path.rglob("*.parquet"))


def test_signature_without_columns_gives_values_and_lists(tmp_path: Path) -> None:
    signature = Signature(
        (TensorSpec("x", "INT64", (-1,)), TensorSpec("pixels", "FP32", (-1, 2, 2))),
        (TensorSpec("row", "BOOL", (-1,)), TensorSpec("t", "BYTES", (-1, 2))),
    )
    texts = np.array([[b"a", b"\xff"], [b"", b"d"]], object)
    inputs = {"x": np.array([5, 6]), "pixels": np.arange(8, dtype=np.float32).reshape(2, 2, 2)}
    write(tmp_path, LoggedBatch("m", 1, signature, [request("a", 2)], 2, inputs, {"row": np.array([True, False]), "t": texts}))
    assert select(tmp_path, 'x, pixels, row, "output.row", t') == [
        (5, [0, 1, 2, 3], 0, True, ["a", "\ufffd"]),
        (6, [4, 5, 6, 7], 1, False, ["", "d"]),
    ]


def test_model_that_keeps_no_rows_apart_gets_one_row_a_request(tmp_path: Path) -> None:
    signature = Signature((TensorSpec("numbers", "FP32", (4,)),), (TensorSpec("total", "FP32", ()),))
    for number in range(2):
        inputs, outputs = {"numbers": np.full(4, number, np.float32)}, {"total": np.array(4 * number, np.float32)}
        write(tmp_path, LoggedBatch("m", 1, signature, [request(f"{number}", 1)], 1, inputs, outputs))
    assert select(tmp_path, "prediction_id, numbers, total") == [("0", [0, 0, 0, 0], 0), ("1", [1, 1, 1, 1], 4)]


def test_requests_of_such_a_model_may_have_any_shapes(tmp_path: Path) -> None:
    signature = Signature((TensorSpec("numbers", "FP32", (-1, 2)),), (TensorSpec("total", "FP32", (-1,)),))
    log = PredictionLog(LogFiles(tmp_path, None, None), share=1, privacy=Privacy(), seconds=60)
    log.start()
    for number in (3, 1, 3):
        inputs, outputs = {"numbers": np.ones((number, 2), np.float32)}, {"total": np.full(number, number, np.float32)}
        log.offer(LoggedBatch("m", 1, signature, [request(f"{number}", 1)], 1, inputs, outputs))
    log.stop()
    assert (log.counts().written, log.counts().write_failed) == (3, 0)


def test_more_than_may_wait_is_dropped_and_counted_and_the_rest_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_log, "MAX_ROWS", 100)
    log = PredictionLog(LogFiles(tmp_path, None, None), share=1, privacy=Privacy(), seconds=60)
    begin = time.perf_counter()
    for number in range(1000):
        log.offer(packed_batch(request(f"{number}", 3)))
    assert time.perf_counter() - begin < 2
    log.start()
    log.stop()
    assert (log.counts().written, log.counts().queue_full) == (99, 2901)
    assert len(select(tmp_path, "row")) == 99


def test_long_ids_and_texts_count_with_their_length(tmp_path: Path) -> None:
    log = PredictionLog(LogFiles(tmp_path, None, None), share=1, privacy=Privacy(), seconds=60)
    megabyte = 1 << 20
    signature = Signature((TensorSpec("x", "BYTES", (-1,)),), (TensorSpec("y", "FP32", (-1,)),))
    text = np.empty(1, object)
    text[0] = bytes(megabyte)
    for number in range(300):
        log.offer(packed_batch(request(f"{number}".zfill(megabyte // 2), 1)))
        log.offer(LoggedBatch("m", 1, signature, [request(f"{number}", 1)], 1, {"x": text}, {"y": np.zeros(1, np.float32)}))
    assert 0 < 600 - log.counts().queue_full <= prediction_log.MAX_BYTES // (megabyte // 2)


def test_disk_that_takes_nothing_is_counted_and_logging_goes_on_when_it_does_again(tmp_path: Path) -> None:
    blocker = tmp_path / "model=churn"
    blocker.write_text("a file where the folder should be")
    log = PredictionLog(LogFiles(tmp_path, None, None), share=1, privacy=Privacy(), seconds=0.05)
    log.start()
    log.offer(packed_batch(request("a", 2)))
    log.offer(packed_batch(request("x", 1), model="other"))
    wait_until(lambda: log.counts().write_failed == 2, "not counted")
    blocker.unlink()
    log.offer(packed_batch(request("b", 5)))
    log.stop()
    assert (log.counts().written, log.counts().write_failed) == (6, 2)


def test_what_is_logged_stands_in_a_file_within_the_seconds_said(tmp_path: Path) -> None:
    log = PredictionLog(LogFiles(tmp_path, None, None), share=1, privacy=Privacy(), seconds=0.1)
    log.start()
    try:
        log.offer(packed_batch(request("a", 2)))
        wait_until(lambda: log.counts().written == 2, "not written", 5)
        assert len(select(tmp_path, "row")) == 2
    finally:
        log.stop()


def test_reader_never_sees_part_of_a_file(tmp_path: Path) -> None:
    done = threading.Event()

    def read() -> Iterator[int]:
        while not done.is_set():
            for path in tmp_path.rglob("*.parquet"):
                yield pq.ParquetFile(path).metadata.num_rows

    seen: list[int] = []
    reader = threading.Thread(target=lambda: seen.extend(read()))
    reader.start()
    for number in range(20):
        write(tmp_path, packed_batch(request(f"{number}", 500)))
    done.set()
    reader.join()
    assert set(seen) <= {500}
    assert not list(tmp_path.rglob("*.tmp"))


def test_two_processes_write_to_one_folder_without_a_clash(tmp_path: Path) -> None:
    logs = [PredictionLog(LogFiles(tmp_path, 36_500, 1 << 30), share=1, privacy=Privacy(), seconds=0.01) for _ in range(2)]
    for log in logs:
        log.start()
    for number in range(40):
        logs[number % 2].offer(packed_batch(request(f"{number:02}", 1)))
        time.sleep(0.005)
    for log in logs:
        log.stop()
    assert [row[0] for row in select(tmp_path, "prediction_id")] == [f"{number:02}" for number in range(40)]


def test_old_days_go_and_then_the_oldest_until_the_rest_is_small_enough(tmp_path: Path) -> None:
    today = dt.date(2026, 3, 10)
    files = LogFiles(tmp_path, keep_days=5, max_bytes=2500)
    for day in range(1, 11):
        files.write({"model": "m", "version": 1}, f"2026-03-{day:02}", b"x" * 1000)
    files.sweep(today)
    assert [path.name for path in sorted((tmp_path / "model=m/version=1").iterdir())] == ["date=2026-03-09", "date=2026-03-10"]
    LogFiles(tmp_path, keep_days=None, max_bytes=None).sweep(today)
    LogFiles(tmp_path, keep_days=1, max_bytes=None).sweep(today + dt.timedelta(days=1))
    assert [path.parent.name for path in tmp_path.rglob("*.parquet")] == ["date=2026-03-10"]


def test_half_written_file_of_a_crash_is_removed_once_it_is_old(tmp_path: Path) -> None:
    old, young = tmp_path / ".old.tmp", tmp_path / ".young.tmp"
    for path in (old, young):
        path.touch()
    os.utime(old, (0, 0))
    LogFiles(tmp_path, None, None).prepare()
    assert list(tmp_path.iterdir()) == [young]


def test_logging_does_not_load_pandas(tmp_path: Path) -> None:
    program = f"""
import sys
import numpy as np
from pathlib import Path
from registry.bundle import Signature, TensorSpec
from server.log_files import LogFiles
from server.prediction_log import PredictionLog
from server.observed import LoggedBatch, LoggedRequest
from server.prediction_table import Privacy

signature = Signature(
    (TensorSpec("numeric", "FP32", (-1, 1), ("age",)), TensorSpec("kind", "BYTES", (-1,))), (TensorSpec("ok", "BOOL", (-1,)),)
)
inputs = {{"numeric": np.ones((2, 1), np.float32), "kind": np.array([b"a", b"b"], object)}}
request = LoggedRequest("a", "stable", 1.0, 2)
privacy = Privacy(frozenset(), frozenset(["kind"]), b"k")
log = PredictionLog(LogFiles(Path({str(tmp_path)!r}), None, None), share=0.9, privacy=privacy, seconds=9)
log.start()
log.offer(LoggedBatch("m", 1, signature, [request], 2, inputs, {{"ok": np.array([True, False])}}))
log.stop()
assert log.counts().written == 2, log.counts()
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_hashing_without_a_good_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("secret")
    log = {"prediction_log": str(tmp_path / "log"), "prediction_log_hash": ["city"]}
    for key, words in ((None, "--prediction-log-hash-key FILE"), ("short", "too few"), ("absent", "No such file")):
        flags = log if key is None else {**log, "prediction_log_hash_key": str(tmp_path / key)}
        with pytest.raises(SettingsError, match=words):
            open_prediction_log(tmp_path / "log", read_settings(flags))


def test_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="--prediction-log "):
        open_prediction_log(tmp_path / "file", read_settings({}))
