"""Who asks for quality in a running control plane: one at a time, of the logs that the settings name. The work itself is `assess`."""

import threading

from control_plane.errors import LogsOffError
from control_plane.quality.assess import Quality, Span, assess
from control_plane.quality.join import Logs
from registry.registry import Registry


class QualityDesk:
    """Answers one caller after the other: each may take as much memory as `join.MEMORY`, and more of them would be no quicker."""

    def __init__(self, logs: Logs | None) -> None:
        self._logs = logs
        self._turn = threading.Lock()

    @property
    def open(self) -> bool:
        """Whether there are logs to read."""
        return self._logs is not None

    def assess(self, registry: Registry, model: str, label: str, asked: Span) -> Quality:
        """As `assess.assess`.

        Raises:
            LogsOffError: if this control plane was not told where the logs are.
        """
        if self._logs is None:
            raise LogsOffError(
                "quality is read from the logs: start the control plane with the daemons' --prediction-log DIR and --feedback-log DIR"
            )
        with self._turn:
            return assess(registry, self._logs, model, label, asked)
