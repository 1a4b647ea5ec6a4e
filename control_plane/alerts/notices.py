"""What a notice becomes in a log: its reason, its labels within bounds, and the words that count it. Pure."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from registry.alert import EARLIEST, LATEST, Alert, Status
from registry.rules import MAX_TEXT

ACTOR = "alertmanager"
MAX_LABELS = 30
MAX_LABEL_TEXT = 200
_FIRST = ("alertname", "severity", "model", "version", "feature")
"""Labels that are kept before all others."""

NAMES = frozenset(
    {
        "TidegateDaemonDown",
        "TidegateDrift",
        "TidegateDriftNotJudged",
        "TidegateErrorBudgetFastBurn",
        "TidegateErrorBudgetSlowBurn",
        "TidegateLatencyBudgetFastBurn",
        "TidegateLatencyBudgetSlowBurn",
        "TidegateMissingData",
        "TidegateModelLoadFailed",
        "TidegateNoPredictions",
        "TidegatePredictionDrift",
        "TidegateQualityDropped",
        "TidegateQueueFull",
        "TidegateRegistryStale",
    }
)
"""The alerts of deploy/prometheus. Others are noted as well, and counted together: what callers say must not become a label."""
OTHER = "other"


class Outcome(StrEnum):
    """What became of a notice."""

    NOTED = "noted"
    REPEATED = "repeated"
    NO_MODEL = "no_model"
    UNKNOWN_MODEL = "unknown_model"
    FAILED = "failed"


def alert_of(fingerprint: str, status: Status, starts_at: datetime, ends_at: datetime | None, labels: Mapping[str, str]) -> Alert:
    """The alert as it is noted: labels within bounds, and an end only if it has ended and is one that makes sense."""
    ended = ends_at if status is Status.RESOLVED and ends_at and EARLIEST <= ends_at < LATEST else None
    return Alert(fingerprint, status, starts_at, ended, bounded(labels))


def bounded(labels: Mapping[str, str]) -> dict[str, str]:
    """At most 30 labels, those that tell most first, names and values cut at 200 characters."""
    order = sorted(labels, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))
    return {name[:MAX_LABEL_TEXT]: labels[name][:MAX_LABEL_TEXT] for name in order[:MAX_LABELS]}


def reason(alert: Alert, annotations: Mapping[str, str]) -> str:
    """What the log says: the alert's name, its summary if it has one, and that it is over if it is."""
    name = alert.name.strip() or "unnamed alert"
    said = " ".join((annotations.get("summary") or annotations.get("description") or "").split())
    what = f"{name} resolved" if alert.status is Status.RESOLVED else name
    return (f"{what}: {said}" if said else what)[:MAX_TEXT]


def counted_as(alert: Alert) -> str:
    """The name that it is counted under."""
    return alert.name if alert.name in NAMES else OTHER
