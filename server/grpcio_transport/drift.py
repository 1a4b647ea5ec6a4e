"""Counts the rows a version sees into the bins of its profile, many batches at once and off the path of the requests.

What the counts mean is in `registry.drift`.
"""

import threading
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from registry.bundle import Signature
from registry.profile import Counts, Feature, NumericFeature, Profile
from server.counts import DriftCounts
from server.engine import Columns, Tensor

SCORE = "score"
CLASS = "class"
MAX_PENDING_ROWS = 65_536

Column: TypeAlias = Callable[[Columns, Columns], Tensor]
"""Inputs and outputs of a batch -> the values [n] of one feature."""


class DriftCounter:
    """The counts of one version; thread-safe. `observe` only keeps the batch, `fold` counts."""

    def __init__(self, profile: Profile, signature: Signature) -> None:
        self._profile = profile
        columns = _columns(signature)
        self._features = [(feature, columns.get(feature.name)) for feature in profile.features]
        self._observed = [np.zeros(len(feature.bins), np.int64) for feature in profile.features]
        self._rows = 0
        self._pending: list[tuple[Columns, Columns, int]] = []
        self._pending_rows = 0
        self._lock = threading.Lock()

    def observe(self, inputs: Columns, outputs: Columns, rows: int) -> None:
        """Remember a batch; folds at once if much is waiting, so that memory stays bounded and no row is lost."""
        with self._lock:
            self._pending.append((inputs, outputs, rows))
            self._pending_rows += rows
            full = self._pending_rows >= MAX_PENDING_ROWS
        if full:
            self.fold()

    def fold(self) -> None:
        """Count all that is remembered."""
        with self._lock:
            pending, self._pending, self._pending_rows = self._pending, [], 0
            if not pending:
                return
            for place, (feature, column) in enumerate(self._features):
                if column is not None:
                    values = np.concatenate([column(inputs, outputs) for inputs, outputs, _ in pending])
                    self._observed[place] += _count(feature, values)
            self._rows += sum(rows for _, _, rows in pending)

    def counts(self) -> DriftCounts:
        """The counts of every batch observed so far."""
        self.fold()
        with self._lock:
            return DriftCounts(self._profile, self._rows, tuple(observed.copy() for observed in self._observed))


def _count(feature: Feature, values: Tensor) -> Counts:
    if isinstance(feature, NumericFeature):
        return feature.count(values.astype(np.float32))
    texts = [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values]
    return feature.count(np.array(texts, dtype=object))


def _columns(signature: Signature) -> dict[str, Column]:
    """How to get at every feature: a column of a packed input, an input of one value per row, or what was predicted."""
    columns: dict[str, Column] = {}
    for spec in signature.inputs:
        for place, name in enumerate(spec.columns):
            columns[name] = _packed(spec.name, place)
        if not spec.columns and (len(spec.shape) == 1 or spec.shape[1:] == (1,)):
            columns[spec.name] = _single(spec.name)
    probabilities = next((spec for spec in signature.outputs if spec.shape[1:] == (len(signature.classes),)), None)
    if probabilities is not None and signature.classes:
        columns[CLASS] = _predicted(probabilities.name, signature.classes)
        if signature.positive in signature.classes:
            columns[SCORE] = _score(probabilities.name, signature.classes.index(signature.positive))
    return columns


def _packed(tensor: str, place: int) -> Column:
    return lambda inputs, _: inputs[tensor][:, place]


def _single(tensor: str) -> Column:
    return lambda inputs, _: inputs[tensor].reshape(-1)


def _score(tensor: str, place: int) -> Column:
    return lambda _, outputs: outputs[tensor][:, place]


def _predicted(tensor: str, classes: tuple[str, ...]) -> Column:
    names = np.array(classes, dtype=object)
    return lambda _, outputs: names[outputs[tensor].argmax(axis=1)]
