"""The scikit-learn pipeline of a candidate: how the two packed inputs become what the classifier sees. Fits nothing, searches nothing."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from training.dataset import Inputs

CLASSIFIERS = {"logistic-regression": LogisticRegression, "gradient-boosting": GradientBoostingClassifier}
# HistGradientBoosting is not here: skl2onnx does not convert it.
_FIXED: Mapping[str, Mapping[str, object]] = {"logistic-regression": {"max_iter": 5000}, "gradient-boosting": {}}
_SCALED = ("logistic-regression",)


def pack(rows: Inputs) -> NDArray[np.object_] | NDArray[np.float32]:
    """One matrix [n, p + q], numeric columns first: object if there is text in it, else float32.

    Numbers stay float32, so that the estimator is fitted on the very values ONNX Runtime will see.
    """
    if rows.categorical.shape[1] == 0:
        return rows.numeric
    return np.hstack([rows.numeric.astype(object), rows.categorical])


def build(algorithm: str, widths: tuple[int, int], parameters: Mapping[str, float], seed: int) -> Pipeline:
    """An unfitted pipeline for `widths` = (p, q) packed columns: missing numbers become the median, text becomes one column per value seen.

    Columns are addressed by place, not by name: the ONNX converter then maps them onto the two inputs, one after the other.
    """
    numeric, categorical = widths
    steps: list[tuple[str, object]] = [("impute", SimpleImputer(strategy="median", keep_empty_features=True))]
    if algorithm in _SCALED:
        steps.append(("scale", StandardScaler()))
    parts: list[tuple[str, object, list[int]]] = []
    if numeric:
        parts.append(("numeric", Pipeline(steps), list(range(numeric))))
    if categorical:
        parts.append(("categorical", OneHotEncoder(handle_unknown="ignore"), list(range(numeric, numeric + categorical))))
    classifier = CLASSIFIERS[algorithm](random_state=seed, **_FIXED[algorithm], **parameters)
    return Pipeline([("features", ColumnTransformer(parts)), ("classifier", classifier)])
