"""The calls of live quality: labels in, by way of a daemon, and the quality of a version out."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request

from control_plane.inference.daemons import Daemons
from control_plane.parameters import time_parameter
from control_plane.quality.assess import DEFAULT_MATURE, parse_age, span
from control_plane.quality.desk import QualityDesk
from control_plane.quality.schemas import LabelsIn, QualityView, ReceiptView, quality_view, receipt_view
from control_plane.registry_pool import LentRegistry

_WHEN = "ISO 8601; UTC if it has no offset"

router = APIRouter(prefix="/api/v1", tags=["quality"])


@router.post("/feedback")
async def feedback(request: Request, body: LabelsIn) -> ReceiptView:
    """Keep labels: they are on a daemon's disk when this is answered. Wrong ones are refused one by one."""
    labels = body.to_sdk()
    return receipt_view(await _daemons(request).ask(lambda client: client.feedback(body.model, labels)))


@router.get("/models/{model}/quality")
def quality(
    request: Request,
    model: str,
    registry: LentRegistry,
    version: Annotated[str, Query(description="a number, staging or production; production if empty")] = "",
    since: Annotated[str | None, Query(alias="from", description=f"{_WHEN}; 30 days before `until` without")] = None,
    until: Annotated[str | None, Query(description=_WHEN)] = None,
    mature: Annotated[str, Query(description="age from which rows are judged: 90s, 30m, 12h, 7d")] = DEFAULT_MATURE,
) -> QualityView:
    """What a version was worth, by the labels that came, and what it should be worth where none has come."""
    start, end = (None if text is None else time_parameter(name, text) for name, text in (("from", since), ("until", until)))
    return quality_view(_desk(request).assess(registry, model, version, span(datetime.now(UTC), parse_age(mature), start, end)))


def _daemons(request: Request) -> Daemons:
    daemons: Daemons = request.app.state.daemons
    return daemons


def _desk(request: Request) -> QualityDesk:
    desk: QualityDesk = request.app.state.quality
    return desk
