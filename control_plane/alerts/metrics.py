"""Counts what became of the alerts that were told, in the collector registry of the process."""

from prometheus_client import CollectorRegistry, Counter

from control_plane.alerts.notices import Outcome, counted_as
from registry.alert import Alert


class AlertMetrics:
    """Alerts by name, status and outcome; every label is bounded."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._alerts = Counter("tidegate_alerts", "Alerts told by Alertmanager", ("alert", "status", "outcome"), registry=registry)

    def observe(self, alert: Alert, outcome: Outcome) -> None:
        """Count one."""
        self._alerts.labels(counted_as(alert), alert.status.value, outcome.value).inc()
