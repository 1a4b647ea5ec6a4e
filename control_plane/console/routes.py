"""The pages: all models, and one model with its drift and alerts. No script, no asset from elsewhere; all is under /api/v1 as well."""

from dataclasses import dataclass

import jinja2
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from control_plane.alerts.routes import newest
from control_plane.alerts.schemas import alert_view
from control_plane.console.histogram import draw
from control_plane.drift.fleet import FleetDrift
from control_plane.drift.routes import fleet_drift
from control_plane.errors import ControlPlaneError
from control_plane.models.routes import FILES
from control_plane.registry_pool import LentRegistry
from registry.drift import FeatureDrift
from registry.errors import RegistryError
from registry.registry import Registry
from registry.state import ModelState
from tidegate_client import TidegateError

_POLICY = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
DRAWN = 3
"""Histograms on a page, unless one feature is asked for."""
ALERTS = 20
_QUALITY = "/api/v1/models/{model}/quality"

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


@router.get("/", include_in_schema=False)
def index(request: Request, registry: LentRegistry) -> HTMLResponse:
    """All models."""
    models = [_model(registry, registry.state(name)) for name in registry.models()]
    return HTMLResponse(_pages(request).index(models), headers=_POLICY)


@router.get("/models/{model}", include_in_schema=False)
async def one_model(request: Request, model: str, registry: LentRegistry, version: str = "", feature: str = "") -> HTMLResponse:
    """One model: its versions, the drift of `version` with the histogram of `feature` or of the worst, and its alerts."""
    known = await run_in_threadpool(_known, registry, model)
    drift = await _drift(request, registry, model, version)
    page = _pages(request).model({**known, **_drift_parts(drift, feature), "quality": _quality(request, model)})
    return HTMLResponse(page, headers=_POLICY)


def _known(registry: Registry, model: str) -> dict[str, object]:
    noted = [alert_view(entry, alert) for entry, alert in newest(registry, model, ALERTS)]
    return {"model": _model(registry, registry.state(model)), "alerts": noted}


async def _drift(request: Request, registry: Registry, model: str, version: str) -> _Drift:
    try:
        return _Drift(await fleet_drift(request.app.state.daemons, registry, model, version), "")
    except (RegistryError, ControlPlaneError, TidegateError) as error:
        return _Drift(None, str(error))


def _drift_parts(drift: _Drift, chosen: str) -> dict[str, object]:
    features = sorted(drift.found.features, key=lambda feature: -feature.psi) if drift.found else []
    drawings = [draw(feature) for feature in _drawn(features, chosen)]
    return {"drift": drift.found, "failure": drift.failure, "features": features, "drawings": drawings}


def _drawn(features: list[FeatureDrift], chosen: str) -> list[FeatureDrift]:
    return [feature for feature in features if feature.name == chosen] or features[:DRAWN]


def _quality(request: Request, model: str) -> str | None:
    """Where quality is told, if this control plane tells it."""
    paths = {getattr(route, "path", None) for route in request.app.routes}
    return _QUALITY.format(model=model) if _QUALITY in paths else None


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
