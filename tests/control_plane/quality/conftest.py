"""Logs as a daemon writes them, of rows whose scores and labels a test chooses."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from control_plane.quality.join import Logs
from registry.bundle import Signature, TensorSpec
from server.feedback import KeptLabel
from server.feedback_log import open_feedback_log
from server.log_files import LogFiles
from server.observed import LoggedBatch, LoggedRequest
from server.prediction_log import PredictionLog
from server.prediction_table import Privacy

NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
MODEL = "churn"


def signature(*, named: bool = True, classes: tuple[str, ...] = ("no", "yes")) -> Signature:
    """A classifier whose probabilities have a column for each class, or, as training makes them, are one tensor."""
    width = len(classes)
    return Signature(
        (TensorSpec("numeric", "FP32", (-1, 1), ("age",)),),
        (TensorSpec("label", "BYTES", (-1,)), TensorSpec("probabilities", "FP32", (-1, width), classes if named else ())),
        classes,
        classes[-1],
    )


@dataclass(frozen=True)
class Writer:
    """Writes to both logs."""

    logs: Logs

    def predict(
        self,
        prediction_id: str,
        scores: Sequence[float],
        *,
        at: dt.datetime = NOON,
        arm: str = "stable",
        version: int = 1,
        model: str = MODEL,
        made: Signature | None = None,
        privacy: Privacy | None = None,
    ) -> None:
        """Log one request of a row for each score."""
        made = signature() if made is None else made
        rows, positive = len(scores), np.array(scores, np.float32)
        others = np.repeat(((1 - positive) / (len(made.classes) - 1))[:, None], len(made.classes) - 1, 1)
        outputs = {"label": np.array([b"?"] * rows, object), "probabilities": np.column_stack([others, positive])}
        request = LoggedRequest(prediction_id, arm, at.timestamp(), rows)
        log = PredictionLog(LogFiles(self.logs.predictions), share=1, privacy=privacy or Privacy(), seconds=60)
        log.start()
        log.offer(LoggedBatch(model, version, made, [request], rows, {"numeric": np.zeros((rows, 1), np.float32)}, outputs))
        log.stop()
        assert log.counts().written == rows

    def label(
        self,
        prediction_id: str,
        label: str | float,
        row: int = 0,
        *,
        observed: dt.datetime = NOON + DAY,
        received: dt.datetime = NOON + DAY,
        model: str = MODEL,
    ) -> None:
        """Log one label."""
        self.labels([(prediction_id, row, label)], observed=observed, received=received, model=model)

    def labels(
        self,
        labels: Sequence[tuple[str, int, str | float]],
        *,
        observed: dt.datetime = NOON + DAY,
        received: dt.datetime = NOON + DAY,
        model: str = MODEL,
    ) -> None:
        """Log several labels: prediction id, row, label."""
        assert self.logs.feedback is not None
        kept = [
            KeptLabel(name, row, label, None, observed.timestamp())
            if isinstance(label, str)
            else KeptLabel(name, row, None, label, observed.timestamp())
            for name, row, label in labels
        ]
        open_feedback_log(self.logs.feedback).write(model, kept, received.timestamp())


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    # A folder whose name DuckDB would read as a pattern.
    logs = Logs(tmp_path / "logs[1]*" / "predictions", tmp_path / "logs[1]*" / "feedback")
    for folder in (logs.predictions, logs.feedback):
        assert folder is not None
        folder.mkdir(parents=True)
    return Writer(logs)
