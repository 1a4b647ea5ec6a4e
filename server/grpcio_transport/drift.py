"""Counts the rows a version sees into the bins of its profile, many batches at once and off the path of the requests.

What the counts mean is in `registry.drift`.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import structlog

from registry.bundle import Signature, TensorSpec
from registry.profile import Counts, Feature, NumericFeature, Profile
from server.counts import DriftCounts
from server.engine import Columns, Tensor, rows_of
from server.grpcio_transport.batcher import Batch

SCORE = "score"
CLASS = "class"
MAX_PENDING_BYTES = 64 << 20
"""If so much waits to be counted, whoever brings more counts it first: memory stays bounded and no row is lost."""

Column: TypeAlias = Callable[[Columns, Columns], Tensor]
"""Inputs and outputs -> the values [n] of one feature."""
_Columns: TypeAlias = dict[str, tuple[str, Column]]
"""Datatype and column by the name of a feature."""

_log = structlog.get_logger("tidegate.drift")


class DriftCounter:
    """The counts of one version; thread-safe. `observe` only keeps the batch, `fold` counts."""

    def __init__(self, profile: Profile, signature: Signature) -> None:
        self._profile = profile
        probabilities = _probabilities(signature)
        inputs, predictions = _input_columns(signature), _prediction_columns(signature, probabilities)
        self.outputs = (probabilities.name,) if probabilities and profile.predictions else ()
        """the outputs that every batch needs for the predictions to be counted"""
        found = [
            *[(feature, _fitting(feature, inputs)) for feature in profile.inputs],
            *[(feature, _fitting(feature, predictions)) for feature in profile.predictions],
        ]
        if lost := [feature.name for feature, column in found if column is None]:
            _log.warning("features of the profile that no tensor has are not counted", features=lost[:10], number=len(lost))
        self._features = found
        self._observed = [np.zeros(len(feature.bins), np.int64) for feature in profile.features]
        self._rows = 0
        self._pending: deque[tuple[Columns, Columns, int]] = deque()
        self._pending_bytes = 0
        self._lock = threading.Lock()

    def observe(self, batch: Batch) -> None:
        """Remember the rows of a batch that are production traffic."""
        if all(piece.waiting.counted for piece in batch.pieces):
            self._remember(batch.inputs, batch.outputs, batch.rows)
            return
        offset = 0
        for piece in batch.pieces:
            if piece.waiting.counted:
                self._remember(piece.inputs, rows_of(batch.outputs, offset, offset + piece.rows), piece.rows)
            offset += piece.rows

    def fold(self) -> None:
        """Count all that is remembered, or, if it cannot be counted, nothing of it."""
        with self._lock:
            pending = [self._pending.popleft() for _ in range(len(self._pending))]
            self._pending_bytes = 0
            if not pending:
                return
            inputs = _joined([inputs for inputs, _, _ in pending])
            outputs = _joined([outputs for _, outputs, _ in pending])
            counts = [None if column is None else _count(feature, column(inputs, outputs)) for feature, column in self._features]
            self._observed = [
                observed if counted is None else observed + counted for observed, counted in zip(self._observed, counts, strict=True)
            ]
            self._rows += sum(rows for _, _, rows in pending)

    def counts(self) -> DriftCounts:
        """The counts of every batch observed so far."""
        self.fold()
        with self._lock:
            return DriftCounts(self._profile, self._rows, tuple(self._observed))

    def _remember(self, inputs: Columns, outputs: Columns, rows: int) -> None:
        self._pending.append((inputs, outputs, rows))
        self._pending_bytes += sum(tensor.nbytes for tensor in inputs.values())
        if self._pending_bytes > MAX_PENDING_BYTES:
            self.fold()


def _joined(parts: list[Columns]) -> Columns:
    """One tensor of each name; those that only some of the parts have are of no feature."""
    names = set(parts[0]).intersection(*parts)
    return {name: np.concatenate([part[name] for part in parts]) for name in names if parts[0][name].ndim}


def _count(feature: Feature, values: Tensor) -> Counts:
    if isinstance(feature, NumericFeature):
        return feature.count(values.astype(np.float32))
    counted: Counter[str] = Counter()
    for value, number in Counter(values.tolist()).items():
        counted[value.decode(errors="replace") if isinstance(value, bytes) else str(value)] += number
    return feature.place(counted)


def _fitting(feature: Feature, columns: _Columns) -> Column | None:
    """The column of a feature, if there is one of its kind: text has no place between numbers."""
    datatype, column = columns.get(feature.name, ("", None))
    return None if isinstance(feature, NumericFeature) and datatype == "BYTES" else column


def _input_columns(signature: Signature) -> _Columns:
    """Datatype and column of what a profile may name: a column of a packed input, or an input of one value per row."""
    columns: _Columns = {}
    for spec in signature.inputs:
        for place, name in enumerate(spec.columns):
            columns[name] = spec.datatype, _packed(spec.name, place)
        if not spec.columns and (len(spec.shape) == 1 or spec.shape[1:] == (1,)):
            columns[spec.name] = spec.datatype, _single(spec.name)
    return columns


def _prediction_columns(signature: Signature, probabilities: TensorSpec | None) -> _Columns:
    """The same for what was predicted: the score of the positive class, and the class."""
    if probabilities is None:
        return {}
    columns: _Columns = {CLASS: ("BYTES", _predicted(probabilities.name, signature.classes))}
    if signature.positive in signature.classes:
        columns[SCORE] = probabilities.datatype, _score(probabilities.name, signature.classes.index(signature.positive))
    return columns


def _probabilities(signature: Signature) -> TensorSpec | None:
    shape = (len(signature.classes),)
    return next((spec for spec in signature.outputs if signature.classes and spec.shape[1:] == shape), None)


def _packed(tensor: str, place: int) -> Column:
    return lambda inputs, _: inputs[tensor][:, place]


def _single(tensor: str) -> Column:
    return lambda inputs, _: inputs[tensor].reshape(-1)


def _score(tensor: str, place: int) -> Column:
    return lambda _, outputs: outputs[tensor][:, place]


def _predicted(tensor: str, classes: tuple[str, ...]) -> Column:
    names = np.array(classes, dtype=object)
    return lambda _, outputs: names[outputs[tensor].argmax(axis=1)]
