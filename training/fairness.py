"""Group fairness of the held-out decisions, by AIF360.

The only module that imports it; for training jobs alone, as it keeps every data set it has seen in memory.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from registry import canonical
from registry.canonical import JsonObject
from training.imports import quietly

FORMAT = "tidegate.fairness/1"


@dataclass(frozen=True)
class Group:
    """Counts of one value of the protected attribute.

    `favourable` rows were decided favourably; `deserving` rows really had the favourable outcome; `granted` rows are both.
    """

    value: str
    privileged: bool
    rows: int
    favourable: int
    deserving: int
    granted: int


@dataclass(frozen=True)
class Fairness:
    """AIF360's figures, all unprivileged against privileged; None where a group is empty and the figure does not exist.

    `disparate_impact`: ratio of the shares decided favourably (four fifths is the usual limit). `statistical_parity_difference`: their
    difference. `equal_opportunity_difference`: difference of the shares among those who really had the favourable outcome.
    """

    attribute: str
    privileged: str
    favourable: str
    threshold: float
    disparate_impact: float | None
    statistical_parity_difference: float | None
    equal_opportunity_difference: float | None
    groups: tuple[Group, ...]
    unknown: int
    """Rows without a value of the attribute; in no figure."""

    def encode(self) -> bytes:
        """Canonical bytes of `fairness.json`."""
        return canonical.encode({"format": FORMAT, **self.as_json()})

    def as_json(self) -> JsonObject:
        """The content of `fairness.json` but for its format."""
        return {
            "attribute": self.attribute,
            "privileged": self.privileged,
            "favourable": self.favourable,
            "threshold": self.threshold,
            "disparate_impact": self.disparate_impact,
            "statistical_parity_difference": self.statistical_parity_difference,
            "equal_opportunity_difference": self.equal_opportunity_difference,
            "groups": [vars(group) for group in self.groups],
            "unknown": self.unknown,
        }


def assess(
    protected: NDArray[np.object_],
    deserved: NDArray[np.bool_],
    decided: NDArray[np.bool_],
    *,
    attribute: str,
    privileged: str,
    favourable: str,
    threshold: float,
) -> Fairness:
    """Compare the groups of `protected` [n]; `deserved` and `decided` [n] say where the outcome was, and was predicted, `favourable`."""
    known = protected != ""
    values, truth, decision = protected[known], deserved[known], decided[known]
    impact, parity, opportunity = _figures(values == privileged, truth, decision)
    return Fairness(
        attribute=attribute,
        privileged=privileged,
        favourable=favourable,
        threshold=threshold,
        disparate_impact=canonical.finite(impact),
        statistical_parity_difference=canonical.finite(parity),
        equal_opportunity_difference=canonical.finite(opportunity),
        groups=tuple(_group(value, value == privileged, values == value, truth, decision) for value in sorted(set(values))),
        unknown=int((~known).sum()),
    )


def _group(value: str, privileged: bool, members: NDArray[np.bool_], truth: NDArray[np.bool_], decision: NDArray[np.bool_]) -> Group:  # noqa: FBT001 - a value
    counts = (members, members & decision, members & truth, members & truth & decision)
    return Group(value, bool(privileged), *(int(part.sum()) for part in counts))


def _figures(privileged: NDArray[np.bool_], truth: NDArray[np.bool_], decision: NDArray[np.bool_]) -> tuple[float, float, float]:
    with quietly():
        from aif360.datasets import BinaryLabelDataset  # noqa: PLC0415 - takes seconds, and only training needs it
        from aif360.metrics import ClassificationMetric  # noqa: PLC0415 - the same
    frame = pd.DataFrame({"privileged": privileged.astype(float), "favourable": truth.astype(float)})
    actual = BinaryLabelDataset(df=frame, label_names=["favourable"], protected_attribute_names=["privileged"])
    predicted = actual.copy()
    predicted.labels = decision.astype(float).reshape(-1, 1)
    metric = ClassificationMetric(actual, predicted, unprivileged_groups=[{"privileged": 0}], privileged_groups=[{"privileged": 1}])
    with np.errstate(all="ignore"):  # an empty group divides by zero, which Fairness reports as None
        return (
            float(metric.disparate_impact()),
            float(metric.statistical_parity_difference()),
            float(metric.equal_opportunity_difference()),
        )
