"""`tidegate promote` and `tidegate rollback`: through the control plane if one is named, else the same rules in this process."""

from enum import StrEnum
from typing import Annotated

import typer

from clients.cli import control as control_plane
from clients.cli import options, output
from clients.cli.actor import user_name
from clients.cli.options import AsJson, ControlUrl, Model, Reason, RegistryUrl, Version
from registry import names, views
from registry.canonical import JsonObject
from registry.registry import open_registry


class Stage(StrEnum):
    """Where a version can be promoted to."""

    STAGING = names.STAGING
    PRODUCTION = names.PRODUCTION


def promote(
    model: Model,
    version: Version,
    to: Annotated[Stage, typer.Option("--to", help="The stage; production answers all traffic.", show_default=False)],
    reason: Reason,
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    control: ControlUrl = "",
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Put a version into staging or production.

    \b
    Example:
      tidegate promote churn 2 --to production --reason "AUC 0.81, was 0.78"
    """
    actor = user_name()
    if control:
        commit = control_plane.post(control, model, "promotions", {"version": version, "to": to.value, "reason": reason}, actor=actor)
    else:
        commit = views.commit(open_registry(registry).promote(model, version, to=to.value, actor=actor, reason=reason))
    _write(commit, f"{model}: version {version} is in {to}", as_json=as_json)


def rollback(
    model: Model,
    reason: Reason,
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    control: ControlUrl = "",
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Return production to the version that answered before the present one.

    \b
    Example:
      tidegate rollback churn --reason "complaints from branch 12"
    """
    actor = user_name()
    if control:
        commit = control_plane.post(control, model, "rollbacks", {"reason": reason}, actor=actor)
    else:
        commit = views.commit(open_registry(registry).rollback(model, actor=actor, reason=reason))
    _write(commit, f"{model}: production is back at the version before", as_json=as_json)


def _write(commit: JsonObject, line: str, *, as_json: bool) -> None:
    if as_json:
        output.write_json(commit)
    else:
        output.write_line(line)
