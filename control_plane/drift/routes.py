"""The call that reads drift. One daemon's counts; for a whole fleet Prometheus adds up the counters of all."""

from fastapi import APIRouter, Request

from control_plane.drift.schemas import DriftView, drift_view
from control_plane.inference.daemons import Daemons
from registry.names import check_name

router = APIRouter(prefix="/api/v1/models", tags=["drift"])


@router.get("/{model}/drift")
async def drift(request: Request, model: str, version: str = "") -> DriftView:
    """The drift of a version (a number or a stage; production if empty) of the traffic since the daemon loaded it."""
    check_name(model)
    return drift_view(await _daemons(request).ask(lambda client: client.drift(model, version)))


def _daemons(request: Request) -> Daemons:
    daemons: Daemons = request.app.state.daemons
    return daemons
