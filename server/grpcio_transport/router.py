"""Which loaded version answers a request, and as which arm: a pure function of the routing table and the request's label."""

from dataclasses import dataclass

from registry.names import PRODUCTION
from server.loaded_version import LoadedVersion
from server.routing import RoutingTable

STABLE = "stable"
DIRECT = "direct"
"""The arm of a caller that names a version or a stage itself: no production traffic, so it is not counted as drift."""


@dataclass(frozen=True)
class Choice:
    """The version that answers, and the arm it answers as."""

    version: LoadedVersion
    arm: str


def pick(table: RoutingTable, model: str, label: str) -> Choice:
    """The version and the arm for a label; raises as `RoutingTable.resolve`."""
    return Choice(table.resolve(model, label), STABLE if label in {"", PRODUCTION} else DIRECT)
