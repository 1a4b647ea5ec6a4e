"""`tidegate predict` and `drift` against a running daemon: answers per row, the version that gave them, and errors in one line."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clients.cli.predict import answered
from registry.location import create_registry
from tests.clients.cli.conftest import Command
from tests.daemons import Daemon, daemon
from tests.models import register_classifier, register_scaled
from tidegate_client import Prediction

SEED = 7


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with `approval` (columns a, b, c and kind) and `tides` (version 1 in production, version 2 in staging)."""
    folder = tmp_path_factory.mktemp("daemon")
    registry = create_registry(str(folder / "registry"))
    random = np.random.default_rng(SEED)
    register_classifier(registry, "approval", 2.0, random.normal(size=(1000, 3)).astype(np.float32), ["x", "y"] * 500)
    register_scaled(registry, "tides", 2.0)
    register_scaled(registry, "tides", 3.0)
    for model in ("approval", "tides"):
        registry.promote(model, 1, to="production", actor="ana", reason="test")
    registry.promote("tides", 2, to="staging", actor="ana", reason="test")
    with daemon(folder, {"registry": str(folder / "registry")}) as found:
        for model, version in (("approval", ""), ("tides", "1"), ("tides", "2")):
            found.wait_for(model, version)
        yield found


def test_each_row_is_answered_with_version_and_id(tidegate: Command, running: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("kind,c,b,a\nx,0,0,0\ny,5,6,10\n")
    done = tidegate("predict", "approval", "--rows", path, "--address", running.address, "--json")
    assert done.returncode == 0
    rows = json.loads(done.stdout)["rows"]
    assert [row["version"] for row in rows] == ["1", "1"]
    assert rows[0]["id"] == rows[1]["id"] != ""
    assert [row["probabilities_yes"] for row in rows] == pytest.approx([0.5, 1.0], abs=1e-6)
    assert [row["echo"] for row in rows] == ["x", "y"]


def test_outputs_of_every_shape_become_cells_of_their_row() -> None:
    outputs = {
        "label": np.array(["no", "yes"], object),
        "probability": np.array([[0.25, 0.75], [0.5, np.nan]], np.float32),
        "width": np.array([[1], [2]], np.int64),
        "cube": np.arange(8, dtype=np.int32).reshape(2, 2, 2),
        "flag": np.array([True, False]),
    }
    first, second = answered(Prediction("approval", "3", "i", outputs, ("no", "yes")))
    assert first == {
        "version": "3", "id": "i", "label": "no", "probability_no": 0.25, "probability_yes": 0.75, "width": 1,
        "cube_no": [0, 1], "cube_yes": [2, 3], "flag": True,
    }  # fmt: skip
    assert second["probability_yes"] is None
    assert [cells["total"] for cells in answered(Prediction("sum", "1", "i", {"total": np.array(10.0, np.float32)}))] == [10.0]


def test_people_get_a_table(tidegate: Command, running: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"a": 1, "b": 2, "c": None}]))
    header, row = tidegate("predict", "tides", "--rows", path, "--address", running.address).stdout.splitlines()
    assert header.split() == ["version", "id", "scaled_0", "scaled_1", "scaled_2"]
    assert row.split()[0] == "1"
    assert row.split()[2:] == ["2", "4", "-"]


@pytest.mark.parametrize(("version", "factor"), [("", 2), ("staging", 3), ("1", 2), ("2", 3)])
def test_a_version_or_stage_can_be_asked(tidegate: Command, running: Daemon, tmp_path: Path, version: str, factor: int) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b,c\n" + "1,2,3\n" * 2500)
    done = tidegate("predict", "tides", "--rows", path, "--address", running.address, "--version", version, "--json")
    rows = json.loads(done.stdout)["rows"]
    assert len(rows) == 2500
    assert {row["scaled_2"] for row in rows} == {3.0 * factor}


@pytest.mark.parametrize(
    ("model", "content", "words"),
    [
        ("tide", "a,b,c\n1,2,3\n", "tide"),
        ("tides", "a,b\n1,2\n", "missing 'c'"),
        ("tides", "a,b,c,d\n1,2,3,4\n", "unknown 'd'"),
        ("tides", "a,b,c\n1,2,many\n", "'many'"),
        ("tides", "a,b,c\n", "has no rows"),
    ],
)
def test_wrong_rows_are_exit_2_and_named(tidegate: Command, running: Daemon, tmp_path: Path, model: str, content: str, words: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(content)
    done = tidegate("predict", model, "--rows", path, "--address", running.address)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_drift_of_the_rows_sent_is_reported(tidegate: Command, running: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b,c,kind\n" + "9,0,0,x\n" * 1000)
    assert tidegate("predict", "approval", "--rows", path, "--address", running.address).returncode == 0
    found = json.loads(tidegate("drift", "approval", "--address", running.address, "--json").stdout)
    assert found["rows"] >= 1000
    assert "a" in found["drifted"]
    shown = tidegate("drift", "approval", "--address", running.address)
    assert shown.returncode == 0
    assert "drifted: " in shown.stdout


def test_drift_of_a_window_or_arm_is_reported_or_says_what_there_is(tidegate: Command, running: Daemon) -> None:
    at = ("--address", running.address)
    early = tidegate("drift", "approval", "--window", "24h", *at)
    assert (early.returncode, early.stderr) == (0, "")
    assert "no window of 24h has been completed yet" in early.stdout
    shadow = json.loads(tidegate("drift", "approval", "--arm", "shadow", "--json", *at).stdout)
    assert (shadow["arm"], shadow["rows"], shadow["persistent"]) == ("shadow", 0, [])
    for wrong, words in ((("--window", "2h"), "1h, 6h, 24h, 10000rows"), (("--arm", "direct"), "stable, canary, shadow")):
        done = tidegate("drift", "approval", *wrong, *at)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr


def test_a_daemon_that_is_not_there_is_exit_2(tidegate: Command, unused_address: str) -> None:
    done = tidegate("drift", "tides", "--address", unused_address)
    assert done.returncode == 2
    assert unused_address in done.stderr
