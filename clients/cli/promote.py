"""`tidegate promote`, `rollback` and `route`: through the control plane if one is named, else the same rules in this process."""

import re
from enum import StrEnum
from typing import Annotated

import typer

from clients.cli import control as control_plane
from clients.cli import options, output
from clients.cli.actor import user_name
from clients.cli.errors import InputError
from clients.cli.options import AsJson, ControlUrl, Model, Reason, RegistryUrl, SigningKey, TrustedKeys, Version
from registry import names, views
from registry.canonical import JsonObject
from registry.location import Keys, open_registry
from registry.route import WHOLE, Target


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
    signing_key: SigningKey = None,
    trusted_keys: TrustedKeys = None,
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
        commit = views.commit(
            open_registry(registry, keys=Keys(signing_key, trusted_keys)).promote(model, version, to=to.value, actor=actor, reason=reason)
        )
    _write(commit, f"{model}: version {version} is in {to}", as_json=as_json)


def rollback(
    model: Model,
    reason: Reason,
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    control: ControlUrl = "",
    signing_key: SigningKey = None,
    trusted_keys: TrustedKeys = None,
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
        commit = views.commit(open_registry(registry, keys=Keys(signing_key, trusted_keys)).rollback(model, actor=actor, reason=reason))
    _write(commit, f"{model}: production is back at the version before", as_json=as_json)


def route(
    model: Model,
    split: Annotated[list[str], typer.Option("--split", metavar="VERSION=PERCENT", help="The first is the stable one, the rest canaries.")],
    reason: Reason,
    shadow: Annotated[list[int] | None, typer.Option("--shadow", metavar="VERSION", help="Gets a copy of what is asked.")] = None,
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    signing_key: SigningKey = None,
    trusted_keys: TrustedKeys = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Say which versions answer production traffic, and which get a copy of it.

    \b
    Example:
      tidegate route churn --split 3=90 --split 4=10 --shadow 5 --reason "canary of version 4"
    """
    opened = open_registry(registry, keys=Keys(signing_key, trusted_keys))
    commit = opened.route(model, _target(split, shadow or []), actor=user_name(), reason=reason)
    _write(views.commit(commit), f"{model}: production is {' '.join(split)}", as_json=as_json)


_SHARE = re.compile(r"[0-9]{1,12}(=[0-9]{1,3})?")


def _target(split: list[str], shadows: list[int]) -> Target:
    weights: dict[int, int] = {}
    for part in split:
        version, _, weight = part.partition("=")
        if not _SHARE.fullmatch(part) or int(version) in weights:
            raise InputError(f"--split {part[:40]!r} is not VERSION=PERCENT, with each version once: write e.g. --split 3=90 --split 4=10")
        weights[int(version)] = int(weight or WHOLE)
    return Target(next(iter(weights)), weights, tuple(shadows))


def _write(commit: JsonObject, line: str, *, as_json: bool) -> None:
    if as_json:
        output.write_json(commit)
    else:
        output.write_line(line)
