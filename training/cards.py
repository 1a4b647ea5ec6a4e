"""The model card and the data card, as data. Turning a card into Markdown or HTML belongs to who shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from registry import canonical
from registry.canonical import JsonObject
from registry.profile import Profile
from training.charts import Chart
from training.dataset import Dataset, Rows
from training.evaluation import Evaluation
from training.fairness import Fairness
from training.spec import Candidate, Spec

MODEL_CARD_FORMAT = "tidegate.model_card/1"
DATA_CARD_FORMAT = "tidegate.data_card/1"
FOUR_FIFTHS = 0.8


@dataclass(frozen=True)
class Facts:
    """What a model card reports about one version."""

    spec: Spec
    candidate: Candidate
    dataset: Dataset
    parameters: Mapping[str, float]
    evaluation: Evaluation
    fairness: Fairness | None
    parity: float
    packages: Mapping[str, str]


def model_card(facts: Facts, charts: Sequence[Chart]) -> bytes:
    """Canonical bytes of `model_card.json`."""
    spec, data = facts.spec, facts.spec.data
    card: JsonObject = {
        "format": MODEL_CARD_FORMAT,
        "model": spec.model.name,
        "purpose": spec.model.purpose,
        "limits": [*spec.model.limits, *_observed_limits(facts)],
        "algorithm": facts.candidate.algorithm,
        "parameters": dict(facts.parameters),
        "inputs": {"numeric": list(data.numeric), "categorical": list(data.categorical)},
        "outcome": {
            "column": data.outcome,
            "positive": data.positive,
            "negative": facts.dataset.classes[0],
            "threshold": spec.evaluation.threshold,
        },
        "data": {
            "source": data.source,
            "digest": facts.dataset.digest,
            "training_rows": len(facts.dataset.training),
            "holdout_rows": len(facts.dataset.holdout),
        },
        "evaluation": facts.evaluation.as_json(),
        "fairness": facts.fairness.as_json() if facts.fairness else None,
        "onnx_parity": {"rows": len(facts.dataset.holdout), "largest_difference": facts.parity},
        "packages": dict(facts.packages),
        "charts": [vars(chart) for chart in charts],
    }
    return canonical.encode(card)


def data_card(spec: Spec, dataset: Dataset, profile: Profile) -> bytes:
    """Canonical bytes of `data_card.json`: where the data come from and what their training rows hold, column by column."""
    data, rows = spec.data, dataset.training
    columns = [_numeric_column(spec, name, rows.numeric[:, place]) for place, name in enumerate(data.numeric)]
    kept = {feature.name: feature.bins for feature in profile.inputs}
    for place, name in enumerate(data.categorical):
        values = [value.removeprefix("=") for value in kept[name] if value.startswith("=")]
        columns.append({**_column(spec, name, "categorical"), "missing": int((rows.categorical[:, place] == "").sum()), "values": values})
    columns.append({**_column(spec, data.outcome, "outcome"), "missing": 0, "values": list(dataset.classes)})
    if spec.fairness:
        known = sorted({str(value) for value in rows.protected} - {""})
        columns.append(
            {**_column(spec, spec.fairness.attribute, "protected"), "missing": int((rows.protected == "").sum()), "values": known}
        )
    return canonical.encode(
        {
            "format": DATA_CARD_FORMAT,
            "model": spec.model.name,
            "source": data.source,
            "digest": dataset.digest,
            "rows": {"training": _rows(rows), "holdout": _rows(dataset.holdout)},
            "columns": columns,
        }
    )


def _observed_limits(facts: Facts) -> list[str]:
    """What the figures themselves warn of."""
    fairness = facts.fairness
    if fairness is None:
        return ["Fairness was not assessed: the spec names no protected attribute."]
    impact = fairness.disparate_impact
    if impact is not None and not FOUR_FIFTHS <= impact <= 1 / FOUR_FIFTHS:
        return [f"Disparate impact on {fairness.attribute} is {impact:.2f} at the threshold {fairness.threshold:g}: outside four fifths."]
    return []


def _column(spec: Spec, name: str, role: str) -> JsonObject:
    return {"name": name, "role": role, "meaning": spec.data.columns.get(name, "")}


def _numeric_column(spec: Spec, name: str, values: np.ndarray[tuple[int], np.dtype[np.float32]]) -> JsonObject:
    present = values[~np.isnan(values)]
    quantiles = [float(value) for value in np.quantile(present, [0, 0.25, 0.5, 0.75, 1])] if present.size else []
    return {**_column(spec, name, "numeric"), "missing": int(values.size - present.size), "quantiles": quantiles}


def _rows(rows: Rows) -> JsonObject:
    return {"count": len(rows), "positives": int(rows.outcome.sum())}
