"""The exported model answers as the fitted one does, whatever packed inputs it has, and a difference is never let through."""

import dataclasses

import numpy as np
import pytest
from sklearn.pipeline import Pipeline

from tests.training.conftest import EXAMPLE, SEED
from training import dataset, features, onnx_export, spec
from training.dataset import Dataset, Rows
from training.errors import ParityError
from training.onnx_export import OnnxModel


@pytest.fixture(scope="module")
def data() -> Dataset:
    return dataset.load(spec.load(EXAMPLE / "spec.toml"), EXAMPLE / "hmda.csv")


def _narrow(rows: Rows, widths: tuple[int, int]) -> Rows:
    numeric = rows.numeric[:, : widths[0]].copy()
    numeric[::17, :1] = np.nan
    categorical = rows.categorical[:, : widths[1]].copy()
    categorical[::19, :1] = ""
    return dataclasses.replace(rows, numeric=numeric, categorical=categorical)


def _fit(data: Dataset, algorithm: str, widths: tuple[int, int]) -> tuple[Pipeline, OnnxModel]:
    rows = _narrow(data.training, widths)
    estimator = features.build(algorithm, widths, {}, SEED).fit(features.pack(rows), data.labels(rows))
    return estimator, onnx_export.export(estimator, widths, "parity")


@pytest.mark.parametrize("algorithm", list(spec.ALGORITHMS))
@pytest.mark.parametrize("widths", [(6, 6), (6, 0), (0, 6), (1, 1)])
def test_labels_are_equal_and_probabilities_within_the_tolerance_with_missing_and_unseen_values(
    data: Dataset, algorithm: str, widths: tuple[int, int]
) -> None:
    estimator, model = _fit(data, algorithm, widths)
    rows = _narrow(data.holdout, widths)
    rows.categorical[5:9, :1] = "never seen"
    assert onnx_export.check_parity(estimator, model, rows) <= 1e-5


def test_a_single_row_gets_the_answer_it_gets_among_others(data: Dataset) -> None:
    _, model = _fit(data, "gradient-boosting", (6, 6))
    labels, probabilities = model.run(data.holdout)
    for place in (0, 100, 713):
        label, probability = model.run(data.holdout.take(slice(place, place + 1)))
        assert label[0] == labels[place]
        np.testing.assert_array_equal(probability[0], probabilities[place])


def test_equal_models_are_equal_bytes(data: Dataset) -> None:
    assert _fit(data, "gradient-boosting", (6, 6))[1].raw == _fit(data, "gradient-boosting", (6, 6))[1].raw


def test_a_model_that_answers_differently_is_refused(data: Dataset) -> None:
    estimator, _ = _fit(data, "logistic-regression", (6, 6))
    _, other = _fit(data, "gradient-boosting", (6, 6))
    with pytest.raises(ParityError, match="different labels"):
        onnx_export.check_parity(estimator, other, data.holdout)


def test_probabilities_that_differ_are_refused_even_if_all_labels_agree(data: Dataset) -> None:
    estimator, model = _fit(data, "logistic-regression", (6, 6))
    sure = data.holdout.take(np.flatnonzero(model.run(data.holdout)[1][:, 0] > 0.9))
    estimator.named_steps["classifier"].intercept_ += 1e-3
    with pytest.raises(ParityError, match="in a probability"):
        onnx_export.check_parity(estimator, model, sure)
