"""The call that reads drift: of all daemons of the settings, added up. What processes behind one address counted, Prometheus adds up."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool

from control_plane.drift import fleet
from control_plane.drift.fleet import FleetDrift
from control_plane.drift.schemas import DriftQuery, DriftView, drift_view
from control_plane.inference.daemons import Daemons
from control_plane.parameters import version_parameter
from control_plane.registry_pool import LentRegistry
from registry import bundle, profile
from registry.profile import Profile
from registry.registry import Registry

router = APIRouter(prefix="/api/v1/models", tags=["drift"])


@router.get("/{model}/drift")
async def drift(request: Request, model: str, registry: LentRegistry, asked: Annotated[DriftQuery, Query()]) -> DriftView:
    """The drift of a version, at all daemons together."""
    return drift_view(await fleet_drift(_daemons(request), registry, model, asked))


async def fleet_drift(daemons: Daemons, registry: Registry, model: str, asked: DriftQuery) -> FleetDrift:
    """Ask every daemon what it counted, and judge it all at once.

    Raises:
        NotFoundError: if there is no such version, or it has no profile.
        ParameterError: if `asked.version` is none.
        TidegateError: if no daemon answers, or they know no such window or arm.
        DaemonsDisagreeError: if the counts are not of this version's profile.
    """
    reference = await run_in_threadpool(_reference, registry, model, asked.version)
    answers = await daemons.every(lambda client: client.drift(model, str(reference.version), window=asked.window, arm=asked.arm))
    return await run_in_threadpool(fleet.together, model, reference.version, reference.profile, answers)


@dataclass(frozen=True)
class _Reference:
    version: int
    profile: Profile


def _reference(registry: Registry, model: str, version: str) -> _Reference:
    number = version_parameter(registry.state(model), version)
    return _Reference(number, profile.parse(registry.read(model, number, bundle.PROFILE)))


def _daemons(request: Request) -> Daemons:
    daemons: Daemons = request.app.state.daemons
    return daemons
