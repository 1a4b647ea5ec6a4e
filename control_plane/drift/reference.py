"""What the versions in use were like in training, as metrics for recording rules to compare with. Counts nothing.

The values of one version are made in `reference_series`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from control_plane.drift.reference_series import FAMILIES, Series, drift_series, evaluation_series
from control_plane.registry_pool import RegistryPool
from registry import bundle, profile
from registry.errors import RegistryError
from registry.registry import Registry
from registry.state import ModelState

_VERSION = ("model", "version")


class ReferenceCollector(Collector):
    """Collects `FAMILIES` at each scrape; the files of a version in use are read once, since it never changes."""

    def __init__(self, registries: RegistryPool, features: int) -> None:
        """Of each version the references of its predictions and of at most `features` inputs are shown."""
        self._registries = registries
        self._series_of: Mapping[str, Callable[[bytes], Iterable[Series]]] = {
            bundle.PROFILE: lambda raw: drift_series(profile.parse(raw), features),
            bundle.EVALUATION: evaluation_series,
        }
        self._read: dict[tuple[str, int, str], tuple[Series, ...]] = {}

    def describe(self) -> Iterator[Metric]:
        """The families without samples, so that registering reads no file."""
        return _families(())

    def collect(self) -> Iterator[Metric]:
        """The families as the registry is now; what cannot be read is logged and left out, so that the scrape goes on."""
        try:
            with self._registries.lend() as registry:
                found = list(self._in_use(registry))
        except RegistryError as error:
            _warn(error)
            found = []
        versions = {(model, version) for model, version, _ in found}
        self._read = {key: read for key, read in self._read.items() if key[:2] in versions}
        return _families(found)

    def _in_use(self, registry: Registry) -> Iterator[tuple[str, int, Series]]:
        for model in registry.models():
            try:
                versions = in_use(registry.state(model))
            except RegistryError as error:
                _warn(error)
                continue
            for version in versions:
                for series in chain.from_iterable(self._series(registry, model, version, name) for name in self._series_of):
                    yield model, version, series

    def _series(self, registry: Registry, model: str, version: int, name: str) -> tuple[Series, ...]:
        key = (model, version, name)
        try:
            if key not in self._read:
                present = name in registry.manifest(model, version).files
                self._read[key] = tuple(self._series_of[name](registry.read(model, version, name))) if present else ()
        except RegistryError as error:
            _warn(error)
            return ()
        return self._read[key]


def in_use(state: ModelState) -> list[int]:
    """The versions whose rows are counted, or soon may be: those that answer production traffic, canaries too, and the staged one."""
    answering = state.route.target.split if state.route else ()
    return sorted({*answering, *([state.staging] if state.staging is not None else [])})


def _families(found: Iterable[tuple[str, int, Series]]) -> Iterator[Metric]:
    families = {name: GaugeMetricFamily(name, text, labels=(*_VERSION, *labels)) for name, (text, labels) in FAMILIES.items()}
    for model, version, series in found:
        families[series.family].add_metric((model, str(version), *series.labels), series.value)
    yield from families.values()


def _warn(error: RegistryError) -> None:
    structlog.get_logger().warning("reference left out", error=str(error))
