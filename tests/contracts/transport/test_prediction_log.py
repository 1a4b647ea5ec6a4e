"""A sampled prediction log has the requests that the reference's rule chooses, each with all of its rows, and no others."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from numpy.typing import NDArray

from registry import bundle
from registry.bundle import Signature, TensorSpec
from registry.location import create_registry
from server.prediction_table import is_in_share
from tests import models
from tests.contracts.transport.calls import raw_request
from tests.daemons import Daemon, daemon, wait_until
from tests.exposition import scrape, value

SHARE = 0.3
SEED = 20_260_301
REFERENCE = np.random.default_rng(3).normal(size=(500, 3)).astype(np.float32)
LONG = 9
"""Rows of a request that no batch of `WIDEST` rows can take whole."""
WIDEST = "4"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with `classifier`, which has texts, and `total`, whose tensors have no rows."""
    root = tmp_path_factory.mktemp("sampled") / "registry"
    registry = create_registry(str(root))
    models.register_classifier(registry, "classifier", 2.0, REFERENCE, ["red"] * 300 + ["green"] * 200)
    signature = Signature((TensorSpec("numbers", "FP32", (4,)),), (TensorSpec("total", "FP32", ()),))
    registry.register("total", {bundle.MODEL: models.total(), bundle.SIGNATURE: signature.encode()}, {}, actor="test", reason="plain")
    for model in registry.models():
        registry.promote(model, 1, to="production", actor="test", reason="first")
    return root


def flags(root: Path, folder: Path, **more: str) -> dict[str, str]:
    """Of a daemon that logs a share."""
    return {"registry": str(root), "prediction-log": str(folder), "prediction-log-share": str(SHARE), "max-batch-rows": WIDEST, **more}


def select(folder: Path, columns: str) -> list[tuple[Any, ...]]:
    """Rows of the log."""
    query = f"SELECT {columns} FROM read_parquet('{folder}/**/*.parquet', union_by_name=true) ORDER BY ALL"  # noqa: S608
    found: list[tuple[Any, ...]] = duckdb.connect().execute(query).fetchall()
    return found


def names(number: int) -> list[str]:
    """Ids that differ: as short as none needs to be, over more than a block of a hash, and of any letters."""
    drawn = random.Random(SEED)  # noqa: S311 -- the same each time
    return [f"{place}-" + "".join(drawn.choices("abcö✓", k=drawn.choice((0, 1, 20, 51, 52, 60, 130)))) for place in range(number)]


def rows(first: int, number: int) -> dict[str, NDArray[Any]]:
    """Rows of `classifier` that tell their number."""
    places = np.arange(first, first + number)
    return {
        "numeric": np.stack([places / 1000, places, places], 1).astype(np.float32),
        "categorical": np.array([[f"kind {place} ✓"] for place in places], object),
    }


def infer(running: Daemon, ids: list[str], sizes: list[int]) -> dict[str, int]:
    """Ask for so many rows in the name of each id, all at once; the number of the first row of each."""
    firsts = dict(zip(ids, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
    calls: list[Any] = []
    for name, size in zip(ids, sizes, strict=True):
        request = raw_request("classifier", rows(firsts[name], size), prediction_id=name)
        if len(calls) % 3 == 0:
            request.outputs.add(name="probabilities")
        calls.append(running.stub.ModelInfer.future(request, timeout=20))
    for call in calls:
        call.result()
    return firsts


def test_chosen_requests_and_no_others_are_logged_with_all_their_rows_and_texts(root: Path, tmp_path: Path) -> None:
    ids = names(300)
    sizes = [LONG if place % 7 == 0 else 1 + place % 3 for place in range(len(ids))]
    with daemon(tmp_path, flags(root, tmp_path / "log")) as running:
        running.wait_for("classifier")
        firsts = infer(running, ids, sizes)
    expected = set()
    for name, size in zip(ids, sizes, strict=True):
        if is_in_share(name, SHARE):
            expected |= {(name, row, firsts[name] + row, f"kind {firsts[name] + row} ✓") for row in range(size)}
    logged = select(tmp_path / "log", 'prediction_id, row, b::INT, kind, a, "probabilities.yes", "echo"')
    assert {row[:4] for row in logged} == expected
    assert len(logged) == len(expected), Counter(row[:2] for row in logged).most_common(1)
    for row in logged:
        assert row[5] == pytest.approx(1 / (1 + np.exp(-2 * row[4])), abs=1e-6)
        assert row[6] in ([row[3]], None)
    # Who asks for fewer outputs shares no run with others.
    assert {row[6] is None for row in logged} == {True, False}


def test_model_without_rows_has_a_row_for_each_chosen_request(root: Path, tmp_path: Path) -> None:
    ids = names(60)
    with daemon(tmp_path, flags(root, tmp_path / "log")) as running:
        running.wait_for("total")
        for place, name in enumerate(ids):
            request = raw_request("total", {"numbers": np.full(4, place, np.float32)}, prediction_id=name)
            running.stub.ModelInfer(request, timeout=10)
    expected = [(name, 4.0 * place, [float(place)] * 4) for place, name in enumerate(ids) if is_in_share(name, SHARE)]
    assert sorted(select(tmp_path / "log", "prediction_id, total, numbers")) == sorted(expected)


def test_what_is_chosen_is_in_a_file_soon_though_no_request_follows(root: Path, tmp_path: Path) -> None:
    ids = names(40)
    chosen = [name for name in ids if is_in_share(name, SHARE)]
    with daemon(tmp_path, flags(root, tmp_path / "log", **{"prediction-log-seconds": "0.05"})) as running:
        running.wait_for("classifier")
        infer(running, ids, [1] * len(ids))

        def written() -> float:
            return value(scrape(running.metrics_url), "tidegate_prediction_log_rows_total")

        wait_until(lambda: written() == len(chosen), "not all are in files", 3)
        assert value(scrape(running.metrics_url), "tidegate_prediction_log_dropped_total") == 0
    assert [row[0] for row in select(tmp_path / "log", "prediction_id")] == sorted(chosen)


def test_version_that_is_replaced_loses_nothing_of_what_it_answered(tmp_path: Path) -> None:
    registry = create_registry(str(tmp_path / "registry"))
    for factor in (2.0, 3.0, 4.0, 5.0):
        models.register_scaled(registry, "scaled", factor)
    registry.promote("scaled", 1, to="production", actor="test", reason="first")
    ids = names(200)
    with daemon(tmp_path, flags(tmp_path / "registry", tmp_path / "log")) as running:
        running.wait_for("scaled")
        for place, name in enumerate(ids):
            request = raw_request("scaled", {"numeric": np.full((1, 3), place, np.float32)}, prediction_id=name)
            running.stub.ModelInfer(request, timeout=10)
            if place % 50 == 49 and place < 190:
                # Two versions later the one before is not loaded any more.
                registry.promote("scaled", place // 50 + 2, to="production", actor="test", reason="next")
                running.wait_for("scaled", str(place // 50 + 2))
    logged = select(tmp_path / "log", "prediction_id, a, scaled[1] / version")
    expected = [(name, float(place)) for place, name in enumerate(ids) if is_in_share(name, SHARE)]
    assert sorted(row[:2] for row in logged) == sorted(expected)
