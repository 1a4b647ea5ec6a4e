"""Which loaded version answers a request, and as which arm: a pure function of the routing table, the request's label and its key."""

from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple

from registry.names import PRODUCTION
from registry.route import CANARY, STABLE, WHOLE
from server.loaded_version import LoadedVersion
from server.routing import RoutingTable, ServedModel

DIRECT = "direct"
"""The arm of a caller that names a version or a stage itself: no production traffic, so it is not counted as drift."""


class Choice(NamedTuple):
    """The version that answers, the arm it answers as, and the versions that get a copy once it has."""

    version: LoadedVersion
    arm: str
    shadows: tuple[LoadedVersion, ...] = ()


def pick(table: RoutingTable, model: str, label: str, key: str) -> Choice:
    """The version and the arm for a label; `key` decides between the versions of a split.

    Raises:
        ModelUnknownError, VersionUnknownError, ModelLoadingError: as `RoutingTable.resolve`.
    """
    if label not in {"", PRODUCTION}:
        return Choice(table.resolve(model, label), DIRECT)
    served = table.models.get(model)
    if served is None or not (served.split or served.shadows):
        return Choice(table.resolve(model, label), STABLE)
    stable = table.resolve(model, label)
    number = assigned(model, served.split, stable.number, key) if served.split else stable.number
    return Choice(served.versions[number], STABLE if number == stable.number else CANARY, _shadows(served))


def assigned(model: str, split: Mapping[int, int], stable: int, key: str) -> int:
    """The version of `split` (percent by version) that a key belongs to: the same on every replica, after every restart.

    Keys are spread over 100 slots by the first 8 bytes, big-endian, of the SHA-256 of model, a zero byte and key. Canaries take the slots
    from 0 up in the order of their numbers and the stable version has the rest, so that a canary whose share grows keeps the keys it had.
    """
    slot = int.from_bytes(sha256(f"{model}\0{key}".encode()).digest()[:8]) % WHOLE
    for number in sorted(split):
        if number != stable:
            slot -= split[number]
            if slot < 0:
                return number
    return stable


def _shadows(served: ServedModel) -> tuple[LoadedVersion, ...]:
    return tuple(served.versions[number] for number in served.shadows)
