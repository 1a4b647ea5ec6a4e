"""The files of one version, from what training found. Computes golden rows; registers nothing."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry import bundle, canonical
from registry.bundle import Signature
from registry.profile import Profile
from training import cards, onnx_export, provenance
from training.cards import Facts
from training.charts import Chart
from training.dataset import Rows
from training.onnx_export import OnnxModel
from training.search import Found

TRAINING_FORMAT = "tidegate.training/1"
GOLDEN_ROWS = 32
UNSEEN = "never-seen-in-training"


def build(
    facts: Facts, model: OnnxModel, signature: Signature, profile: Profile, found: Found, charts: tuple[Chart, ...], experiment: str
) -> Mapping[str, bytes]:
    """Every file of the bundle, by name."""
    files = {
        bundle.MODEL: model.raw,
        bundle.SIGNATURE: signature.encode(),
        bundle.PROFILE: profile.encode(),
        bundle.GOLDEN: golden(model, facts.dataset.holdout),
        bundle.EVALUATION: facts.evaluation.encode(),
        bundle.TRAINING: training_record(facts, found, experiment),
        bundle.DATA_CARD: cards.data_card(facts.spec, facts.dataset, profile),
        bundle.MODEL_CARD: cards.model_card(facts, charts),
    }
    if facts.fairness is not None:
        files[bundle.FAIRNESS] = facts.fairness.encode()
    return files


def golden(model: OnnxModel, holdout: Rows) -> bytes:
    """`golden.npz`: 32 rows spread over the held-out ones, and what ONNX Runtime answered. Text is fixed-width Unicode: no pickle.

    The last but one holds only missing values; in the last one number is missing and one text was never seen in training.
    """
    rows = _golden_rows(holdout)
    labels, probabilities = model.run(rows)
    arrays: dict[str, Any] = {f"input.{name}": _plain(matrix) for name, matrix in onnx_export.inputs(rows).items()}
    arrays |= {"output.label": _plain(labels), "output.probabilities": probabilities}
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def training_record(facts: Facts, found: Found, experiment: str) -> bytes:
    """Canonical bytes of `training.json`: all it takes to train this version again."""
    return canonical.encode(
        {
            "format": TRAINING_FORMAT,
            "spec": facts.spec.model_dump(mode="json"),
            "candidate": facts.candidate.model_dump(mode="json"),
            "seed": facts.spec.evaluation.seed,
            "code_commit": provenance.code_commit(),
            "dependency_digest": provenance.dependency_digest(),
            "data_digest": facts.dataset.digest,
            "comet_experiment": experiment,
            "parameters": dict(found.best.parameters),
            "trials": [{"number": trial.number, "parameters": dict(trial.parameters), "score": trial.score} for trial in found.trials],
        }
    )


def _golden_rows(holdout: Rows) -> Rows:
    rows = holdout.take(np.linspace(0, len(holdout) - 1, min(GOLDEN_ROWS, len(holdout))).astype(np.int64))
    numeric, categorical = rows.numeric.copy(), rows.categorical.copy()
    numeric[-2], categorical[-2] = np.nan, ""
    numeric[-1, :1], categorical[-1, :1] = np.nan, UNSEEN
    return Rows(numeric, categorical, rows.outcome, rows.protected)


def _plain(matrix: NDArray[np.float32] | NDArray[np.object_]) -> NDArray[np.float32] | NDArray[np.str_]:
    return matrix.astype(str) if matrix.dtype == object else matrix.astype(np.float32)
