"""Every registered version as Triton's RepositoryIndex lists it: loaded or not, and why not. Pure; nothing is loaded here."""

from collections.abc import Iterator

from server.routing import RoutingTable, ServedModel
from tidegate_protos import inference_pb2 as pb

READY = "READY"
LOADING = "LOADING"
UNAVAILABLE = "UNAVAILABLE"


def describe(table: RoutingTable, *, ready: bool) -> pb.RepositoryIndexResponse:
    """All versions by model and number; with `ready` only those that answer requests."""
    index = pb.RepositoryIndexResponse()
    for name, served in sorted(table.models.items()):
        for number, state, reason in _ready(served) if ready else _all(served):
            index.models.add(name=name, version=str(number), state=state, reason=reason)
    return index


def _ready(served: ServedModel) -> Iterator[tuple[int, str, str]]:
    return ((number, READY, "") for number in sorted(served.versions))


def _all(served: ServedModel) -> Iterator[tuple[int, str, str]]:
    wanted = {*served.stages.values(), *served.split, *served.shadows}
    for number in sorted({*served.registered, *served.versions}):
        if number in served.versions:
            yield number, READY, ""
        elif number in served.failures:
            yield number, UNAVAILABLE, served.failures[number]
        elif number in wanted:
            yield number, LOADING, "not loaded yet"
        else:
            yield number, UNAVAILABLE, "in no stage and not routed: promote it to have it served"
