"""Which versions of a model to have loaded, which of them answer, and which to do without when memory is short. Pure: no I/O, no clock."""

from collections.abc import Collection, Mapping
from enum import IntEnum
from types import MappingProxyType

from registry.names import PRODUCTION, STAGING
from registry.route import WHOLE, Target
from registry.state import ModelState
from server.counts import VersionKey
from server.loaded_version import LoadedVersion
from server.routing import ServedModel


class Part(IntEnum):
    """What a version is loaded for. Memory is given in this order, so that the last is the first to go; a stable version always gets it."""

    STABLE = 0
    STAGING = 1
    CANARY = 2
    SHADOW = 3
    ROLLBACK = 4


def wanted(state: ModelState, loaded: Collection[int], failed: Collection[int], before: Mapping[str, int]) -> dict[int, Part]:
    """The versions to have loaded, and for what.

    Those of the route, of the stages, and of the route a rollback returns to, so that it is immediate. `failed` did not load when last
    tried; `before` are the stages as served until now: whatever stands in for a version that is not loaded stays.
    """
    parts: dict[int, Part] = {}
    target = state.route.target if state.route else None
    previous = state.previous_route
    staged = before.get(STAGING)
    for part, numbers in (
        (Part.STABLE, (state.production, _stand_in(state, loaded, failed, before))),
        (Part.STAGING, (state.staging, staged if staged in loaded and state.staging not in {None, *loaded} else None)),
        (Part.CANARY, tuple(target.split) if target else ()),
        (Part.SHADOW, target.shadows if target else ()),
        (Part.ROLLBACK, previous.target.versions if previous else ()),
    ):
        for number in numbers:
            if number is not None:
                parts.setdefault(number, part)
    return parts


def _stand_in(state: ModelState, loaded: Collection[int], failed: Collection[int], before: Mapping[str, int]) -> int | None:
    """The version that answers production while its stable version is not loaded.

    It is the one that did until now, or else the stable one of the newest earlier route that does not fail. An earlier route is only asked
    for when the stable version has failed: while it loads there is nothing to stand in for.
    """
    stable = state.production
    if stable is None or stable in loaded:
        return None
    if before.get(PRODUCTION) in loaded:
        return before[PRODUCTION]
    if stable not in failed:
        return None
    earlier = dict.fromkeys(route.stable for route in reversed(state.routes[:-1]))
    return next((number for number in earlier if number not in failed), None)


def settled(state: ModelState, loaded: Collection[int], failed: Collection[int], before: Mapping[str, int]) -> bool:
    """Whether nothing is to be waited for before production traffic can be answered, if it ever can."""
    stand_in = _stand_in(state, loaded, failed, before)
    return state.production in {None, *loaded} or stand_in in loaded or (stand_in is None and state.production in failed)


def served(
    state: ModelState,
    versions: Mapping[int, LoadedVersion],
    failed: Collection[int],
    before: Mapping[str, int],
    reasons: Mapping[int, str],
) -> ServedModel:
    """The model as it can be served with what is loaded; `reasons` say why those asked for are not."""
    stages: dict[str, int] = {}
    if state.production is not None:
        stand_in = _stand_in(state, versions, failed, before)
        stages[PRODUCTION] = stand_in if stand_in is not None and stand_in in versions else state.production
    if state.staging is not None:
        kept = before.get(STAGING)
        stages[STAGING] = kept if state.staging not in versions and kept is not None and kept in versions else state.staging
    target = state.route.target if state.route else None
    return ServedModel(
        MappingProxyType(dict(versions)),
        MappingProxyType(stages),
        tuple(state.versions),
        MappingProxyType(_split(target, versions) if target else {}),
        tuple(number for number in target.shadows if number in versions and number != stages[PRODUCTION]) if target else (),
        MappingProxyType(dict(reasons)),
    )


def _split(target: Target, loaded: Collection[int]) -> dict[int, int]:
    """A canary that is not loaded gives its share to the stable version; without that one there is no split."""
    if target.stable not in loaded:
        return {}
    split = {number: weight for number, weight in target.split.items() if number in loaded}
    split[target.stable] += WHOLE - sum(split.values())
    return split if len(split) > 1 else {}


def refusals(parts: Mapping[VersionKey, Part], costs: Mapping[VersionKey, int], budget: int) -> dict[VersionKey, str]:
    """Why which versions of all models do without memory, for `costs` and a `budget` in bytes; 0 is no budget, an unknown cost is 0."""
    refused: dict[VersionKey, str] = {}
    if not budget:
        return refused
    left = budget
    for key in sorted(parts, key=lambda key: (parts[key], key)):
        cost = costs.get(key, 0)
        if parts[key] is Part.STABLE or cost <= left:
            left -= cost
        else:
            refused[key] = (
                f"not loaded for want of memory: as {parts[key].name.lower()} it would take about {cost >> 20} MiB, and "
                f"{max(left, 0) >> 20} MiB of the budget of {budget >> 20} MiB are left; raise --memory-budget"
            )
    return refused
