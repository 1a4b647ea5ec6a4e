"""The pages: all models, and one model with its drift, quality and alerts. No script, nothing from elsewhere; all is under /api/v1 too."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

import jinja2
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from control_plane.alerts.routes import newest
from control_plane.alerts.schemas import alert_view
from control_plane.console.histogram import draw
from control_plane.console.points import auc_by_day, calibration, words
from control_plane.drift.fleet import FleetDrift
from control_plane.drift.routes import fleet_drift
from control_plane.drift.schemas import DriftQuery
from control_plane.errors import ControlPlaneError
from control_plane.models.routes import FILES
from control_plane.quality.span import parse_age, span
from control_plane.registry_pool import LentRegistry
from registry.drift import FeatureDrift
from registry.errors import RegistryError
from registry.registry import Registry
from registry.route import CANARY, SHADOW, STABLE
from registry.state import ModelState
from tidegate_client import TidegateError

if TYPE_CHECKING:
    from control_plane.quality.assess import Quality
    from control_plane.quality.desk import QualityDesk

_POLICY = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
DRAWN = 3
"""Histograms on a page, unless one feature is asked for."""
ALERTS = 20
_ARMS = ("", STABLE, CANARY, SHADOW)

router = APIRouter()


class Pages:
    """The templates of the console."""

    def __init__(self) -> None:
        loader = jinja2.PackageLoader("control_plane.console")
        self._templates = jinja2.Environment(
            loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
        )

    def index(self, models: list[dict[str, object]]) -> str:
        """The page at /."""
        return self._templates.get_template("index.html.j2").render(models=models)

    def model(self, parts: dict[str, object]) -> str:
        """The page of one model."""
        return self._templates.get_template("model.html.j2").render(parts)


@dataclass(frozen=True)
class _Drift:
    """What the daemons counted, or why there is nothing to show."""

    found: FleetDrift | None
    failure: str


class ModelQuery(DriftQuery):
    """What of a model is looked at."""

    feature: str = ""
    """whose histogram is drawn; empty: the worst"""


@router.get("/", include_in_schema=False)
def index(request: Request, registry: LentRegistry) -> HTMLResponse:
    """All models."""
    models = [_model(registry, registry.state(name)) for name in registry.models()]
    return HTMLResponse(_pages(request).index(models), headers=_POLICY)


@router.get("/models/{model}", include_in_schema=False)
async def one_model(request: Request, model: str, registry: LentRegistry, asked: Annotated[ModelQuery, Query()]) -> HTMLResponse:
    """One model: its versions, the drift that is asked for with its histograms, its quality, and its alerts."""
    known = await run_in_threadpool(_known, registry, model)
    drift = await _drift(request, registry, model, asked)
    quality = await run_in_threadpool(_quality, request, registry, model, asked.version)
    page = _pages(request).model({**known, **_drift_parts(drift, asked), **quality})
    return HTMLResponse(page, headers=_POLICY)


def _known(registry: Registry, model: str) -> dict[str, object]:
    noted = [alert_view(entry, alert) for entry, alert in newest(registry, model, ALERTS)]
    return {"model": _model(registry, registry.state(model)), "alerts": noted}


async def _drift(request: Request, registry: Registry, model: str, asked: DriftQuery) -> _Drift:
    try:
        return _Drift(await fleet_drift(request.app.state.daemons, registry, model, asked), "")
    except (RegistryError, ControlPlaneError, TidegateError) as error:
        return _Drift(None, str(error))


def _drift_parts(drift: _Drift, asked: ModelQuery) -> dict[str, object]:
    features = sorted(drift.found.features, key=lambda feature: -feature.psi) if drift.found else []
    drawings = [draw(feature) for feature in _drawn(features, asked.feature)]
    same = urlencode(asked.model_dump(exclude={"feature"}))
    return {"drift": drift.found, "failure": drift.failure, "features": features, "drawings": drawings, "same": same, "arms": _ARMS}


def _drawn(features: list[FeatureDrift], chosen: str) -> list[FeatureDrift]:
    return [feature for feature in features if feature.name == chosen] or features[:DRAWN]


def _quality(request: Request, registry: Registry, model: str, version: str) -> dict[str, object]:
    """What the template says of quality; nothing where no logs are read."""
    desk: QualityDesk = request.app.state.quality
    mature: str = request.app.state.quality_mature
    parts: dict[str, object] = {"quality_told": desk.open, "quality": None, "quality_failure": "", "mature": mature}
    if not desk.open:
        return parts
    try:
        found = desk.assess(registry, model, version, span(datetime.now(UTC), parse_age(mature)))
    except (RegistryError, ControlPlaneError) as error:
        return {**parts, "quality_failure": str(error)}
    return {**parts, **_quality_parts(found)}


def _quality_parts(found: "Quality") -> dict[str, object]:
    charts = {"auc": auc_by_day(found.report), "calibration": calibration(found.report)}
    return {"quality": found, "auc": words(found.report.total.auc), "charts": charts}


def _model(registry: Registry, state: ModelState) -> dict[str, object]:
    return {
        "name": state.model,
        "production": state.production,
        "versions": [_version(registry, state, number) for number in sorted(state.versions)],
    }


def _version(registry: Registry, state: ModelState, number: int) -> dict[str, object]:
    files = registry.manifest(state.model, number).files
    return {
        "number": number,
        "stage": state.stage_of(number),
        "registered": state.version(number).registered.strftime("%Y-%m-%d %H:%M UTC"),
        "reason": state.version(number).reason,
        "documents": [document.value for document, file in FILES.items() if file in files],
    }


def _pages(request: Request) -> Pages:
    pages: Pages = request.app.state.pages
    return pages
