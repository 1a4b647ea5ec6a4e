"""Notifications as Alertmanager posts them. No test lives here."""

from typing import Any

STARTED = "2026-01-31T14:00:00.123456789+02:00"  # Alertmanager writes nanoseconds and the offset of its zone


def notice(model: str | None, **changes: Any) -> dict[str, Any]:
    """One alert, about a model or about none; `changes` replace its fields."""
    labels = {"alertname": "TidegateDrift", "severity": "ticket", "version": "1", **({} if model is None else {"model": model})}
    written = {
        "status": "firing",
        "labels": labels,
        "annotations": {"summary": "income drifted", "runbook_url": "docs/runbooks/tidegate-drift.md"},
        "startsAt": STARTED,
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus:9090/graph",
        "fingerprint": "00c0ffee00c0ffee",
    }
    return {**written, **changes}


def notification(*notices: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The body of one POST; `changes` replace its fields."""
    written = {
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "control-plane",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": list(notices),
    }
    return {**written, **changes}
