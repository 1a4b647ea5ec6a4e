"""A registry that is followed without a daemon, and what is done to it. No test lives here."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from registry import bundle
from registry.location import create_registry, open_registry
from registry.names import PRODUCTION
from registry.registry import Registry
from registry.watch import watch
from server.engine import Engine
from server.follower import Follower
from server.loader import Loader
from server.onnx_engine import OnnxEngine
from server.routing import RoutingTable, ServedModel
from tests import models
from tests.daemons import wait_until

if TYPE_CHECKING:
    import threading

MODEL = "scaled"


class Followed:
    """A registry, what follows it, and the newest table installed; `loads` is what was loaded, each taking `seconds` longer."""

    def __init__(self, root: Path, *, memory_budget: int = 0) -> None:
        self.root = root
        self.registry = open_registry(str(root)) if root.exists() else create_registry(str(root))
        self.table = RoutingTable()
        self.gates: dict[bytes, threading.Event] = {}
        self.loads: list[bytes] = []
        self.seconds = 0.0
        own = open_registry(str(root))
        self.loader = Loader(own, self._engine, memory_budget, self._install)
        self.follower = Follower(own, watch(str(root)), self.loader)

    def _install(self, table: RoutingTable) -> None:
        self.table = table

    def _engine(self, model: bytes) -> Engine:
        self.loads.append(model)
        time.sleep(self.seconds)
        if model in self.gates:
            assert self.gates[model].wait(20)
        return OnnxEngine(model, threads=1)

    def model(self, name: str = MODEL) -> ServedModel:
        return self.table.models[name]

    def serves(self, *, name: str = MODEL, loaded: set[int] | None = None, production: int | None = None) -> None:
        """Return once the model is served like this."""

        def holds() -> bool:
            served = self.table.models.get(name)
            return (
                served is not None
                and (loaded is None or set(served.versions) == loaded)
                and (production is None or (served.stages.get(PRODUCTION) == production and served.ready))
            )

        wait_until(holds, f"{name} is not served so: {self.table.models.get(name)}")


def promote(registry: Registry, version: int, *, model: str = MODEL, to: str = PRODUCTION) -> None:
    registry.promote(model, version, to=to, actor="test", reason="test")


def register(registry: Registry, *factors: float, model: str = MODEL) -> None:
    for factor in factors:
        models.register_scaled(registry, model, factor)


def register_broken(registry: Registry, factor: float, *, model: str = MODEL) -> int:
    """A version whose golden rows are those of another model; returns its number."""
    files = registry.manifest(model, 1).files
    kept = {name: registry.blobs.get(files[name].sha256) for name in (bundle.SIGNATURE, bundle.GOLDEN)}
    return registry.register(model, {bundle.MODEL: models.scaled(factor), **kept}, {}, actor="test", reason="broken")
