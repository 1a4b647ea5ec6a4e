"""What Alertmanager posts (its webhook format, version 4), and what is answered about noted alerts."""

from collections import Counter
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from control_plane.alerts.notices import Outcome
from registry.alert import EARLIEST, LATEST, Alert
from registry.commit import Commit
from registry.times import format_time

MAX_ALERTS = 1000
"""Alerts in one notification; deploy/alertmanager holds Alertmanager to as many."""
FINGERPRINT = "^[0-9a-f]{16}$"


class Notice(BaseModel):
    """One alert of a notification. Fields that are of no use here are left alone."""

    model_config = ConfigDict(populate_by_name=True)

    status: Literal["firing", "resolved"]
    fingerprint: str = Field(pattern=FINGERPRINT)
    starts_at: AwareDatetime = Field(alias="startsAt", ge=EARLIEST, lt=LATEST)
    ends_at: AwareDatetime | None = Field(alias="endsAt", default=None)
    """Year 1 while it fires"""
    labels: dict[str, str] = Field(max_length=1000)
    annotations: dict[str, str] = Field(default={}, max_length=1000)


class Notification(BaseModel):
    """What one POST of Alertmanager holds."""

    version: Literal["4"]
    alerts: list[Notice] = Field(max_length=MAX_ALERTS)
    truncated_alerts: int = Field(alias="truncatedAlerts", default=0, ge=0)
    """Alerts that Alertmanager left out"""


class NotificationView(BaseModel):
    """What became of the alerts of a notification: how many of each."""

    noted: int
    """Are in a log now"""
    repeated: int
    """Were in a log before"""
    no_model: int
    """Are about no model"""
    unknown_model: int
    """Are about a model that is not registered"""
    failed: int
    """Could not be noted; the log of the control plane says why"""


class AlertView(BaseModel):
    """A noted alert, and the commit that notes it."""

    seq: int
    time: str
    """When it was noted"""
    name: str
    status: str
    summary: str
    version: int | None
    fingerprint: str
    starts_at: str
    ends_at: str | None
    labels: dict[str, str]


class AlertsView(BaseModel):
    """The alerts noted last, the newest first."""

    model: str
    alerts: list[AlertView]


def notification_view(outcomes: Counter[Outcome]) -> NotificationView:
    """The outcomes, each with its number."""
    return NotificationView(**{outcome.value: outcomes[outcome] for outcome in Outcome})


def alert_view(entry: Commit, alert: Alert) -> AlertView:
    """One noted alert."""
    version = entry.payload.get("version")
    return AlertView(
        seq=entry.seq,
        time=format_time(entry.time),
        name=alert.name,
        status=alert.status.value,
        summary=entry.change.reason,
        version=version if isinstance(version, int) else None,
        fingerprint=alert.fingerprint,
        starts_at=format_time(alert.starts_at),
        ends_at=None if alert.ends_at is None else format_time(alert.ends_at),
        labels=dict(alert.labels),
    )
