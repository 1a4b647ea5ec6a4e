"""The calls that change a model. Each answers with the commit it made, or refuses and writes nothing."""

from typing import Annotated, TypeAlias

from fastapi import APIRouter, Depends, Header

from control_plane.models.schemas import CommitView, commit_view
from control_plane.promotions.schemas import Promotion, Rollback
from control_plane.registry_pool import LentRegistry

ANONYMOUS = "anonymous"

router = APIRouter(prefix="/api/v1/models/{model}", tags=["changes"])


def read_actor(
    x_tidegate_actor: Annotated[str, Header(description="Who asks, as the audit log records it. Not authenticated.")] = "",
) -> str:
    """The actor of a change: what the header says, unverified until there is authentication."""
    raw = x_tidegate_actor.encode("latin-1")  # the bytes that came; HTTP itself gives them no encoding
    try:
        return raw.decode().strip() or ANONYMOUS
    except UnicodeDecodeError:
        return x_tidegate_actor.strip()


Actor: TypeAlias = Annotated[str, Depends(read_actor)]


@router.post("/promotions", status_code=201)
def promote(model: str, promotion: Promotion, actor: Actor, registry: LentRegistry) -> CommitView:
    """Put a version into a stage."""
    return commit_view(registry.promote(model, promotion.version, to=promotion.to, actor=actor, reason=promotion.reason))


@router.post("/rollbacks", status_code=201)
def roll_back(model: str, rollback: Rollback, actor: Actor, registry: LentRegistry) -> CommitView:
    """Return production to the version it had before."""
    return commit_view(registry.rollback(model, actor=actor, reason=rollback.reason))
