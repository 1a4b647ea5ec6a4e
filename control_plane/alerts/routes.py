"""The calls of alerts. What Alertmanager tells is noted where it can be; only a registry that does not answer makes it try again."""

from collections import Counter, deque
from typing import Annotated

import structlog
from fastapi import APIRouter, Query, Request

from control_plane.alerts import notices
from control_plane.alerts.metrics import AlertMetrics
from control_plane.alerts.notices import Outcome
from control_plane.alerts.schemas import AlertsView, Notice, Notification, NotificationView, alert_view, notification_view
from control_plane.registry_pool import LentRegistry
from registry.alert import Alert, Status, noted_in
from registry.commit import Commit
from registry.errors import AlreadyNotedError, ConflictError, InvalidNameError, ModelUnknownError, RegistryError, StoreError
from registry.registry import Registry

MAX_LISTED = 1000

router = APIRouter(prefix="/api/v1", tags=["alerts"])
_log = structlog.get_logger()


@router.post("/alerts")
def receive(request: Request, notification: Notification, registry: LentRegistry) -> NotificationView:
    """Alertmanager's webhook: each alert with the label `model` becomes a note in that model's log, once however often it is told."""
    if notification.truncated_alerts:
        _log.warning("alertmanager left alerts out", number=notification.truncated_alerts)
    outcomes: Counter[Outcome] = Counter()
    for notice in notification.alerts:
        alert = notices.alert_of(notice.fingerprint, Status(notice.status), notice.starts_at, notice.ends_at, notice.labels)
        outcome = _note(registry, alert, notice)
        _metrics(request).observe(alert, outcome)
        outcomes[outcome] += 1
    return notification_view(outcomes)


@router.get("/models/{model}/alerts")
def alerts(model: str, registry: LentRegistry, limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 100) -> AlertsView:
    """The alerts noted about a model in its last 1,000 commits, the newest first; earlier ones are in the log."""
    return AlertsView(model=model, alerts=[alert_view(entry, alert) for entry, alert in newest(registry, model, limit)])


def newest(registry: Registry, model: str, limit: int) -> list[tuple[Commit, Alert]]:
    """The last `limit` alerts noted about a model with the commits that note them, the newest first.

    Only so many commits are looked at, however long the log has become.

    Raises:
        ModelUnknownError: if it is not registered.
    """
    last = registry.state(model).seq
    noted = ((entry, alert) for entry in registry.log(model, max(0, last - MAX_LISTED)) if (alert := noted_in(entry)))
    return list(reversed(deque(noted, limit)))


def _note(registry: Registry, alert: Alert, notice: Notice) -> Outcome:
    """What became of one alert; raises where trying again may help, and there alone."""
    model = notice.labels.get("model", "")
    told = {"alert": alert.name[:80], "model": model[:80], "status": alert.status.value}
    if not model:
        _log.info("alert about no model", **told)
        return Outcome.NO_MODEL
    try:
        entry = registry.note_alert(model, alert, actor=notices.ACTOR, reason=notices.reason(alert, notice.annotations))
    except AlreadyNotedError:
        return Outcome.REPEATED
    except (ModelUnknownError, InvalidNameError):
        _log.warning("alert about a model that is not registered", **told)
        return Outcome.UNKNOWN_MODEL
    except (StoreError, ConflictError):
        raise
    except RegistryError as error:
        _log.error("alert not noted", **told, error=str(error))
        return Outcome.FAILED
    _log.info("alert noted", **told, seq=entry.seq)
    return Outcome.NOTED


def _metrics(request: Request) -> AlertMetrics:
    metrics: AlertMetrics = request.app.state.alert_metrics
    return metrics
