"""What the versions in use were like in training, as metrics for recording rules to compare with. Counts nothing.

The values of one version are made in `reference_series`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

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
_Key: TypeAlias = tuple[str, int, str]
"""Model, version, and the file that was read"""


class ReferenceCollector(Collector):
    """Collects `FAMILIES` at each scrape; the files of a version in use are read once, since it never changes."""

    def __init__(self, registries: RegistryPool, features: int) -> None:
        """Of each version the references of its predictions and of at most `features` inputs are shown."""
        self._registries = registries
        self._series_of: Mapping[str, Callable[[bytes], Iterable[Series]]] = {
            bundle.PROFILE: lambda raw: drift_series(profile.parse(raw), features),
            bundle.EVALUATION: evaluation_series,
        }
        self._read: Mapping[_Key, tuple[Series, ...]] = {}

    def describe(self) -> Iterator[Metric]:
        """The families without samples, so that registering reads no file."""
        return _families({})

    def collect(self) -> Iterator[Metric]:
        """The families as the registry is now; what cannot be read is logged and left out, so that the scrape goes on."""
        try:
            with self._registries.lend() as registry:
                read = dict(self._in_use(registry))
        except RegistryError as error:
            _warn(error)
            return _families({})
        # In place of what was read before, which another scrape may still be looking at: nothing is kept of versions out of use.
        self._read = read
        return _families(read)

    def _in_use(self, registry: Registry) -> Iterator[tuple[_Key, tuple[Series, ...]]]:
        for model in registry.models():
            try:
                keys = [(model, version, name) for version in in_use(registry.state(model)) for name in self._series_of]
            except RegistryError as error:
                _warn(error)
                continue
            for key in keys:
                try:
                    yield key, self._series(registry, key)
                except RegistryError as error:
                    _warn(error)

    def _series(self, registry: Registry, key: _Key) -> tuple[Series, ...]:
        if (known := self._read.get(key)) is not None:
            return known
        model, version, name = key
        present = name in registry.manifest(model, version).files
        return tuple(self._series_of[name](registry.read(model, version, name))) if present else ()


def in_use(state: ModelState) -> list[int]:
    """The versions whose rows are counted, or soon may be: those that answer production traffic, canaries too, and the staged one."""
    return sorted({*state.answering, *([state.staging] if state.staging is not None else [])})


def _families(read: Mapping[_Key, tuple[Series, ...]]) -> Iterator[Metric]:
    families = {name: GaugeMetricFamily(name, text, labels=(*_VERSION, *labels)) for name, (text, labels) in FAMILIES.items()}
    for (model, version, _), found in read.items():
        for series in found:
            families[series.family].add_metric((model, str(version), *series.labels), series.value)
    yield from families.values()


def _warn(error: RegistryError) -> None:
    structlog.get_logger().warning("reference left out", error=str(error))
