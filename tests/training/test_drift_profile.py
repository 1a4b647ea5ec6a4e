"""A profile made chunk by chunk is that of the rows in memory; the model's answers in it are ONNX Runtime's."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from registry import bundle
from registry.profile import NumericFeature
from tests.training.conftest import EXAMPLE, Run
from training import dataset, drift_profile, onnx_export
from training import spec as specs
from training.dataset import Inputs, Rows
from training.errors import ColumnValueError, ModelFileError, SpecError
from training.onnx_export import OnnxModel

MODEL = "mortgage-denial"


@pytest.fixture
def model(run: Run) -> OnnxModel:
    return OnnxModel(run.registry.read(MODEL, 2, bundle.MODEL))


def cut(rows: Rows, size: int) -> Iterator[Inputs]:
    return (rows.take(slice(start, start + size)) for start in range(0, len(rows), size))


@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_rows_in_chunks_of_any_size_give_the_profile_of_all_of_them(run: Run, model: OnnxModel, size: int) -> None:
    spec, signature = specs.load(EXAMPLE / "spec.toml"), run.versions[1].signature
    rows = run.versions[1].holdout
    expected = drift_profile.of_rows(spec, model, signature, rows)
    assert drift_profile.of_chunks(spec, model, signature, cut(rows, size)) == expected
    score, label = expected.predictions
    assert (score.name, label.name) == ("score", "class")
    assert isinstance(score, NumericFeature)
    # The first may be right below the lowest value.
    assert set(np.asarray(score.edges[1:], np.float32)) <= set(model.run(rows)[1][:, 1])


def test_a_file_read_in_chunks_has_the_rows_of_the_file_and_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.source.CHUNK_ROWS", 1000)
    spec = specs.load(EXAMPLE / "spec.toml")
    heard: list[tuple[int, int]] = []
    chunks = list(dataset.chunks(spec, EXAMPLE / "hmda.csv", lambda done, total: heard.append((done, total))))
    whole, _ = dataset.read(spec, EXAMPLE / "hmda.csv")
    np.testing.assert_array_equal(np.vstack([chunk.numeric for chunk in chunks]), whole.numeric)
    np.testing.assert_array_equal(np.vstack([chunk.categorical for chunk in chunks]), whole.categorical)
    assert (heard[0], heard[-1]) == ((0, 2380), (2380, 2380))
    assert len(heard) == len(chunks) + 1 > 2


def test_a_bad_value_in_a_later_chunk_is_named_by_its_row_in_the_file(
    spec_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.source.CHUNK_ROWS", 1000)
    path = spec_file(rows=lambda text: "\n".join([*text.split("\n")[:2200], "no,inf,0.2,0.8,5,2,no,3.9,no,no,no,no,no,yes"]))
    with pytest.raises(ColumnValueError, match="column 'pirat' has 'inf' in data row 2200"):
        list(dataset.chunks(specs.load(path), path.parent / "hmda.csv", lambda _done, _total: None))


def test_a_model_of_other_columns_and_data_without_rows_are_refused(run: Run, model: OnnxModel) -> None:
    spec, signature = specs.load(EXAMPLE / "spec.toml"), run.versions[1].signature
    other = spec.model_copy(update={"data": spec.data.model_copy(update={"numeric": ("pirat",)})})
    with pytest.raises(SpecError, match="the spec names pirat: they have to be the same"):
        drift_profile.of_chunks(other, model, signature, iter(()))
    with pytest.raises(ColumnValueError, match="no rows"):
        drift_profile.of_chunks(spec, model, signature, iter(()))


def test_a_model_that_is_not_what_its_signature_says_is_refused(run: Run, model: OnnxModel) -> None:
    signature = run.versions[1].signature
    assert onnx_export.load(model.raw, signature).raw == model.raw
    with pytest.raises(ModelFileError, match="does not load"):
        onnx_export.load(b"no model", signature)
    with pytest.raises(ModelFileError, match=r"signature\.json says it takes"):
        onnx_export.load(model.raw, replace(signature, inputs=signature.inputs[:1]))
    with pytest.raises(ModelFileError, match="no score"):
        onnx_export.load(model.raw, replace(signature, positive=""))
