"""The call RecordFeedback: from request bytes to answer bytes, and how many labels came to what. The rule is in `feedback`."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from server.errors import (
    FeedbackNotStoredError,
    FeedbackOffError,
    InputMismatchError,
    ModelLoadingError,
    RequestError,
)
from server.feedback import MAX_LABELS, Checked, KeptLabel, LabelRule, check
from server.messages import parse
from server.routing import RoutingTable
from server.service import MONITORING, Call
from tidegate_protos import monitoring_pb2 as monitoring

RECORDED, DUPLICATE, REFUSED, FAILED = RESULTS = ("recorded", "duplicate", "refused", "failed")
MAX_REFUSALS = 100
"""So many reasons are told in one answer."""


class LabelStore(Protocol):
    """Where labels go."""

    def write(self, model: str, labels: Sequence[KeptLabel], received: float) -> None:
        """Keep them, for good. Raises FeedbackNotStoredError if they cannot be."""
        ...


class Feedback:
    """Answers RecordFeedback by the versions that are loaded; `store` is None where no log was asked for. Thread-safe."""

    def __init__(self, store: LabelStore | None, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._table = RoutingTable()
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def install(self, table: RoutingTable) -> None:
        """Answer by `table` from now on."""
        self._table = table

    def calls(self) -> Mapping[str, Call]:
        """Its call by its path."""
        return {f"/{MONITORING}/RecordFeedback": self._record}

    def counts(self) -> Mapping[tuple[str, str], int]:
        """Labels since the start by model and result, from 0 on; those for a model that is not served count under an empty name."""
        none = dict.fromkeys(((model, result) for model in self._table.models for result in RESULTS), 0)
        with self._lock:
            return MappingProxyType(none | self._counts)

    def _record(self, data: bytes) -> bytes:
        request = parse(monitoring.RecordFeedbackRequest, data)
        known = request.model if request.model in self._table.models else ""
        try:
            checked = self._keep(request)
        except RequestError as error:
            result = FAILED if isinstance(error, FeedbackNotStoredError) else REFUSED
            self._count(known, {result: len(request.labels)})
            raise
        self._count(known, {RECORDED: len(checked.kept), DUPLICATE: checked.duplicate, REFUSED: len(checked.refused)})
        return monitoring.RecordFeedbackResponse(
            recorded=len(checked.kept),
            duplicate=checked.duplicate,
            refused=len(checked.refused),
            refusals=[monitoring.RefusedLabel(index=index, reason=reason) for index, reason in checked.refused[:MAX_REFUSALS]],
        ).SerializeToString()

    def _keep(self, request: monitoring.RecordFeedbackRequest) -> Checked:
        if self._store is None:
            raise FeedbackOffError("this daemon keeps no labels: start it with --feedback-log DIR")
        if not 1 <= len(request.labels) <= MAX_LABELS:
            raise InputMismatchError(f"{len(request.labels)} labels in one call; expected 1 to {MAX_LABELS}")
        served = self._table.model(request.model)
        if not served.versions:
            raise ModelLoadingError(f"no version of {request.model!r} is loaded: what its labels may be is not known yet")
        now = self._clock()
        checked = check(request.labels, LabelRule.of(served), now)
        if checked.kept:
            self._store.write(request.model, checked.kept, now)
        return checked

    def _count(self, model: str, numbers: Mapping[str, int]) -> None:
        with self._lock:
            self._counts.update({(model, result): number for result, number in numbers.items() if number})
