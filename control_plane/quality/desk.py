"""Who asks for quality in a running control plane: one at a time, of the logs that the settings name. The work itself is `assess`."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from control_plane.errors import LogsOffError
from control_plane.quality.span import Span
from registry.registry import Registry

if TYPE_CHECKING:
    from control_plane.quality.assess import Quality
    from control_plane.quality.join import LabelCounts, Logs


class QualityDesk:
    """Answers one caller after the other: each may take a gigabyte of memory, and more of them would be no quicker."""

    def __init__(self, predictions: Path | None, feedback: Path | None) -> None:
        """The folders of the two logs; without `predictions` nothing can be told, without `feedback` only estimates."""
        self._predictions = predictions
        self._feedback = feedback
        self._turn = threading.Lock()

    @property
    def open(self) -> bool:
        """Whether there are logs to read."""
        return self._predictions is not None

    def assess(self, registry: Registry, model: str, label: str, asked: Span) -> "Quality":
        """As `assess.assess`.

        Raises:
            LogsOffError: if this control plane was not told where the logs are.
        """
        from control_plane.quality.assess import assess  # noqa: PLC0415 -- few ask, and it takes seconds and 80 MB

        with self._turn:
            return assess(registry, self._logs(), model, label, asked)

    def count_labels(self, model: str) -> "LabelCounts":
        """As `join.count_labels`; raises as `assess`."""
        from control_plane.quality.join import count_labels  # noqa: PLC0415 -- the same

        with self._turn:
            return count_labels(self._logs(), model)

    def _logs(self) -> "Logs":
        from control_plane.quality.join import Logs  # noqa: PLC0415 -- the same

        if self._predictions is None:
            raise LogsOffError(
                "quality is read from the logs: start the control plane with the daemons' --prediction-log DIR and --feedback-log DIR"
            )
        return Logs(self._predictions, self._feedback)
