"""Whether the daemon and each model serve, as grpc.health.v1 says it. Transport-neutral: who watches is told by a callback."""

import threading
from collections.abc import Callable
from typing import TypeAlias

from grpc_health.v1 import health_pb2

from server.errors import ModelUnknownError
from server.messages import parse
from server.routing import RoutingTable

SERVICE = "grpc.health.v1.Health"
_Status: TypeAlias = int
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

_LONGEST_NAME = 256
"""Characters of a name that are kept as long as it is watched; no model has as long a name."""

Tell: TypeAlias = Callable[[bytes], None]
"""Takes a HealthCheckResponse; must not wait."""


class Health:
    """The status of the daemon (an empty name) and of each model; thread-safe."""

    def __init__(self) -> None:
        self._statuses: dict[str, _Status] = {"": _NOT_SERVING}
        self._watchers: dict[object, tuple[str, Tell]] = {}
        self._stopping = False
        self._lock = threading.Lock()

    def install(self, table: RoutingTable) -> None:
        """Follow `table`. A model that was ever served is NOT_SERVING when it is gone, never unknown."""
        with self._lock:
            statuses = dict.fromkeys(self._statuses, _NOT_SERVING)
            statuses[""] = _SERVING if table.complete else _NOT_SERVING
            statuses |= {name: _SERVING if model.ready else _NOT_SERVING for name, model in table.models.items()}
            self._change(statuses)

    def stop(self) -> None:
        """Nothing serves from now on, whatever is installed."""
        with self._lock:
            self._stopping = True
            self._change(self._statuses)

    def check(self, data: bytes) -> bytes:
        """Answer a HealthCheckRequest.

        Raises:
            ModelUnknownError: if there is no such model.
            InputMismatchError: if it is no such request.
        """
        name = parse(health_pb2.HealthCheckRequest, data).service
        with self._lock:
            if name not in self._statuses:
                raise ModelUnknownError(f"no model {name[:80]!r}")
            return _response(self._statuses[name])

    def watch(self, data: bytes, tell: Tell) -> Callable[[], None]:
        """Tell the status of a service now and at each change; returns what ends it."""
        name = parse(health_pb2.HealthCheckRequest, data).service[:_LONGEST_NAME]
        watcher = object()
        with self._lock:
            self._watchers[watcher] = (name, tell)
            tell(_response(self._statuses.get(name, _SERVICE_UNKNOWN)))

        def end() -> None:
            with self._lock:
                self._watchers.pop(watcher, None)

        return end

    def _change(self, statuses: dict[str, _Status]) -> None:
        before = self._statuses
        self._statuses = dict.fromkeys(statuses, _NOT_SERVING) if self._stopping else statuses
        for name, tell in self._watchers.values():
            status = self._statuses.get(name, _SERVICE_UNKNOWN)
            if status != before.get(name, _SERVICE_UNKNOWN):
                tell(_response(status))


def _response(status: _Status) -> bytes:
    return bytes(health_pb2.HealthCheckResponse(status=status).SerializeToString())
