"""Rows of several callers share a run only where a model keeps rows apart, and that is found out by running it."""

from functools import partial

import numpy as np
import pytest

from registry.bundle import Signature, TensorSpec
from server import row_probe
from server.engine import Columns
from server.onnx_engine import OnnxEngine
from server.row_probe import what_mixes_rows
from tests import models
from tests.graphs import APART, MIXING, graph

ENGINE = partial(OnnxEngine, threads=1)


def why(model: bytes, rows: Columns | None = None) -> str:
    engine = ENGINE(model)
    return what_mixes_rows(engine, engine.signature, rows)


@pytest.mark.parametrize("name", MIXING)
def test_model_whose_rows_depend_on_each_other_is_found(name: str) -> None:
    assert why(MIXING[name])


@pytest.mark.parametrize("name", APART)
def test_model_that_keeps_rows_apart_shares_runs(name: str) -> None:
    assert ENGINE(APART[name]).batchable
    assert why(APART[name]) == ""


def test_golden_rows_are_tried_where_made_up_ones_fail() -> None:
    table = graph("int64[N] x) => (float[N] y", "t = Constant <value = float[2] {9,8}> () y = Gather (t, x)")
    assert "fail" in why(table)
    assert why(table, {"x": np.array([0, 1, 0, 1])}) == ""


def test_golden_rows_that_are_all_alike_do_not_hide_that_rows_mix() -> None:
    alike = {"x": np.ones((5, 3), np.float32)}
    assert why(MIXING["mean of all rows"], alike)


def test_columns_say_how_wide_made_up_rows_are() -> None:
    wide = graph("float[N,M] x) => (float[N,M] y", "w = Constant <value = float[6] {1,2,3,4,5,6}> () y = Mul (x, w)")
    engine = ENGINE(wide)
    stated = Signature((TensorSpec("x", "FP32", (-1, -1), tuple("abcdef")),), engine.signature.outputs)
    assert what_mixes_rows(engine, stated, None) == ""


def test_rows_too_large_to_make_up_are_said_and_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_probe, "MAX_PROBE_BYTES", 10)
    assert "larger than" in why(APART["softmax of each row"])


def test_models_without_rows_are_warmed_up_and_not_shared() -> None:
    for model in (models.total(), graph(") => (float[2] y", "y = Constant <value = float[2] {1,2}> ()")):
        engine = ENGINE(model)
        assert what_mixes_rows(engine, engine.signature, None)
