"""`tidegate feedback` and `quality` against a running daemon and its logs: counts, each refused row, tables, and errors in one line."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from registry.location import create_registry
from tests.clients.cli.conftest import Command
from tests.daemons import Daemon, daemon, wait_until
from tests.models import register_classifier, register_scaled
from tidegate_client import Client, Label

MODEL = "approval"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("daemon")


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Daemon]:
    """A daemon that keeps both logs, with `approval`, which has classes, and `tides`, which has none."""
    registry = create_registry(str(folder / "registry"))
    register_classifier(registry, MODEL, 1.0, np.random.default_rng(7).normal(size=(500, 3)).astype(np.float32), ["x", "y"] * 250)
    register_scaled(registry, "tides", 2.0)
    for model in (MODEL, "tides"):
        registry.promote(model, 1, to="production", actor="ana", reason="test")
    flags = {"registry": folder / "registry", "prediction-log": folder / "predictions", "feedback-log": folder / "labels"}
    with daemon(folder, {name: str(path) for name, path in flags.items()} | {"prediction-log-seconds": "0.1"}) as found:
        for model in (MODEL, "tides"):
            found.wait_for(model)
        yield found


def test_a_file_is_sent_and_each_refused_row_is_told(tidegate: Command, running: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("prediction_id,row,label,observed\na,0,maybe,\ncsv,,yes,2026-03-01T12:00:00Z\ncsv,1,no,1772366400.5\n")
    done = tidegate("feedback", MODEL, "--labels", path, "--address", running.address)
    assert done.returncode == 1
    assert "2 labels recorded, 0 duplicate, 1 refused" in done.stdout
    assert "row 1: label is 'maybe'; expected one of the classes 'no', 'yes' as text" in done.stdout
    assert "1 of 3 labels" in done.stderr
    path.write_text("prediction_id,label\ncsv,yes\n")
    done = tidegate("feedback", MODEL, "--labels", path, "--address", running.address, "--json")
    assert (done.returncode, json.loads(done.stdout)["recorded"]) == (0, 1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("prediction_id,label\n,yes\n", "row 1: prediction_id and label may not be empty"),
        ("prediction_id,label,row\na,yes,1.5\n", "no whole number"),
        ("prediction_id,label,observed\na,yes,yesterday\n", "row 1: "),
        ("prediction_id,lable\na,yes\n", "'lable'"),
        ("prediction_id\na\n", "'label'"),
        ("prediction_id,label\n", "has no rows"),
    ],
)
def test_a_wrong_file_is_exit_2_and_nothing_is_sent(tidegate: Command, running: Daemon, tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(content)
    done = tidegate("feedback", MODEL, "--labels", path, "--address", running.address)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


@pytest.mark.parametrize(("model", "labels"), [(MODEL, ["yes", "no"]), ("tides", [1, -2.5])])
def test_labels_of_every_kind_come_from_every_kind_of_file(
    tidegate: Command, running: Daemon, tmp_path: Path, model: str, labels: list[str | float]
) -> None:
    rows = [{"prediction_id": f"id {place}", "label": label} for place, label in enumerate(labels)]
    (tmp_path / "labels.json").write_text(json.dumps(rows))
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "labels.csv").write_text("prediction_id,label\n" + "".join(f"{row['prediction_id']},{row['label']}\n" for row in rows))
    times = pa.array([1_772_366_400_000, None], pa.timestamp("ms"))
    pq.write_table(pa.Table.from_pylist(rows).append_column("observed", times), tmp_path / "labels.parquet")
    for ending in ("json", "jsonl", "csv", "parquet"):
        done = tidegate("feedback", model, "--labels", tmp_path / f"labels.{ending}", "--address", running.address, "--json")
        assert (done.returncode, json.loads(done.stdout)["recorded"]) == (0, 2), (ending, done)


def test_refused_rows_are_numbered_over_all_batches_and_ten_are_shown(
    tidegate: Command, running: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("prediction_id,label\n" + "a,yes\n" * 5000 + "a,maybe\n" * 12)
    done = tidegate("feedback", MODEL, "--labels", path, "--address", running.address)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "2 labels recorded, 4998 duplicate, 12 refused" or lines[0].startswith("1 labels recorded, 4999 duplicate, 12")
    assert [line.split(":")[0] for line in lines[1:]] == [f"row {5001 + place}" for place in range(10)]


def test_quality_is_told_from_the_logs(tidegate: Command, running: Daemon, folder: Path) -> None:
    numeric = np.array([[-2, 0, 0], [2, 0, 0], [0.5, 0, 0]], np.float32)
    with Client(running.address) as client:
        answer = client.predict(MODEL, {"numeric": numeric, "categorical": [["x"]] * 3})
        client.feedback(MODEL, [Label(answer.id, "no", 0), Label(answer.id, "yes", 1)])
    wait_until(lambda: bool(list((folder / "predictions").rglob("*.parquet"))), "not logged")
    logs = ("--registry", folder / "registry", "--predictions", folder / "predictions")
    done = tidegate("quality", MODEL, *logs, "--feedback", folder / "labels", "--mature", "0s")
    assert done.returncode == 0
    assert "3 mature, 0 younger" in done.stdout
    assert "2 (66.7%), 1 positive" in done.stdout
    assert "1.0000 (one row of a class is too few for an interval)" in done.stdout
    assert "scores as they are" in done.stdout
    unlabelled = tidegate("quality", MODEL, *logs)
    assert "- (no row has a label and a score)" in unlabelled.stdout
    for arguments, words in (
        ((), "--predictions DIR and --feedback DIR"),
        ((*logs, "--version", "7"), "no version 7"),
        ((*logs, "--mature", "soon"), "'soon' is no age"),
        ((*logs, "--from", "soon"), "--from soon"),
        ((*logs[:2], "--predictions", folder / "nowhere"), "is it there"),
    ):
        refused = tidegate("quality", MODEL, *arguments)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert words in refused.stderr
    assert tidegate("quality", "tides", *logs).returncode == 1
