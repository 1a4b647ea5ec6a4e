"""What ONNX Runtime gives through the seam, by datatype and by failure."""

import os

import numpy as np
import pytest
from onnx import TensorProto

from server.errors import ModelFailedError, NotServableError
from server.onnx_engine import OnnxEngine
from tests import models


@pytest.mark.parametrize(
    ("elem_type", "values"),
    [
        (TensorProto.BOOL, np.array([True, False])),
        (TensorProto.INT8, np.array([-128, 127], np.int8)),
        (TensorProto.UINT64, np.array([0, 2**64 - 1], np.uint64)),
        (TensorProto.FLOAT16, np.array([0.5, np.inf], np.float16)),
        (TensorProto.FLOAT, np.array([0.1, np.nan], np.float32)),
        (TensorProto.DOUBLE, np.array([0.1, -0.0])),
    ],
)
def test_every_datatype_passes_unchanged(elem_type: int, values: "np.ndarray[tuple[int], np.dtype[np.generic]]") -> None:
    got = OnnxEngine(models.echo(elem_type), threads=1).run({"x": values}, ["y"])["y"]
    assert got.dtype == values.dtype
    np.testing.assert_array_equal(got, values)


def test_text_passes_as_utf8_and_other_bytes_are_refused() -> None:
    engine = OnnxEngine(models.echo(TensorProto.STRING), threads=1)
    assert engine.run({"x": np.array([b"", "ü".encode()], object)}, ["y"])["y"].tolist()[1] == "ü".encode()
    with pytest.raises(ModelFailedError, match="not UTF-8"):
        engine.run({"x": np.array([b"\xff"], object)}, ["y"])


def test_only_models_with_one_free_first_dimension_are_batchable() -> None:
    assert OnnxEngine(models.scaled(2), threads=1).batchable
    assert not OnnxEngine(models.total(), threads=1).batchable


def test_what_is_no_model_is_not_servable() -> None:
    with pytest.raises(NotServableError, match="cannot load the model"):
        OnnxEngine(b"not onnx", threads=1)


def test_telemetry_is_off_before_the_runtime_is_imported() -> None:
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
