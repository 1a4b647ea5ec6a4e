"""The drift profile of a model: the reference rows and what the model predicts for them, as features. Exact, or in one pass by sketches.

The bins are the registry's, the sketches are in `sketches`. What can be trained on fits in memory, so training is exact; `of_chunks` is for
a reference larger than that. Predictions are those of the ONNX model in both: scikit-learn's differ in the last bit, and a bin's edge is a
value that occurs.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from registry.bundle import CATEGORICAL, NUMERIC, Signature
from registry.profile import CLASS, SCORE, Profile, categorical_feature, numeric_feature
from training.dataset import Inputs
from training.errors import ColumnValueError, SpecError
from training.onnx_export import OnnxModel
from training.sketches import CategorySketch, NumericSketch
from training.spec import Spec


def of_rows(spec: Spec, model: OnnxModel, signature: Signature, rows: Inputs, importance: tuple[float, ...] = ()) -> Profile:
    """The profile of `rows` in memory, with exact counts; `importance` as in `Profile`."""
    labels, score = _predictions(model, signature, rows)
    return Profile(
        rows=len(rows),
        inputs=(
            *(numeric_feature(name, rows.numeric[:, place]) for place, name in enumerate(spec.data.numeric)),
            *(categorical_feature(name, rows.categorical[:, place].tolist()) for place, name in enumerate(spec.data.categorical)),
        ),
        predictions=(numeric_feature(SCORE, score), categorical_feature(CLASS, labels.tolist())),
        importance=importance,
        limits=spec.drift.limits(),
    )


def of_chunks(spec: Spec, model: OnnxModel, signature: Signature, chunks: Iterable[Inputs]) -> Profile:
    """The profile of rows that come in `chunks`, in one pass and in memory that does not grow with them. Small data are counted exactly.

    Beyond what a sketch holds (`sketches.KLL_K`, `sketches.LG_CATEGORIES`) edges are near the quantiles and counts estimates that add up.

    Raises:
        SpecError: if the model takes other columns than the spec names.
        ColumnValueError: if there are no rows.
    """
    _check_columns(spec, signature)
    numeric = [NumericSketch() for _ in spec.data.numeric]
    categorical = [CategorySketch() for _ in spec.data.categorical]
    score, label = NumericSketch(), CategorySketch()
    rows = 0
    for chunk in chunks:
        labels, scores = _predictions(model, signature, chunk)
        for number_sketch, numbers in zip((*numeric, score), (*chunk.numeric.T, scores), strict=True):
            number_sketch.add(numbers)
        for text_sketch, texts in zip((*categorical, label), (*chunk.categorical.T, labels), strict=True):
            text_sketch.add(texts.tolist())
        rows += len(chunk)
    if not rows:
        raise ColumnValueError("the data have no rows that the spec asks for: there is nothing to make a profile of")
    return Profile(
        rows=rows,
        inputs=(
            *(sketch.feature(name) for name, sketch in zip(spec.data.numeric, numeric, strict=True)),
            *(sketch.feature(name) for name, sketch in zip(spec.data.categorical, categorical, strict=True)),
        ),
        predictions=(score.feature(SCORE), label.feature(CLASS)),
        limits=spec.drift.limits(),
    )


def _predictions(model: OnnxModel, signature: Signature, rows: Inputs) -> tuple[NDArray[np.object_], NDArray[np.float32]]:
    labels, probabilities = model.run(rows)
    return labels, probabilities[:, signature.classes.index(signature.positive)]


def _check_columns(spec: Spec, signature: Signature) -> None:
    taken = {tensor.name: tensor.columns for tensor in signature.inputs}
    for name, columns in ((NUMERIC, spec.data.numeric), (CATEGORICAL, spec.data.categorical)):
        if taken.get(name, ()) != columns:
            raise SpecError(
                f"the model takes the {name} columns {', '.join(taken.get(name, ())) or '(none)'}, "
                f"the spec names {', '.join(columns) or '(none)'}: they have to be the same, in the same order"
            )
