"""The drift references of the versions in a stage, as metrics: shares of bins, and the distribution function at edges. Counts nothing."""

from collections.abc import Iterator
from itertools import accumulate

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from control_plane.registry_pool import RegistryPool
from registry import bundle, profile
from registry.errors import RegistryError
from registry.profile import Feature, NumericFeature, Profile
from registry.registry import Registry

_VERSION = ("model", "version")
_FEATURE = (*_VERSION, "feature")


class ReferenceCollector(Collector):
    """Collects `tidegate_drift_reference_*` at each scrape; a profile is read once, since a version never changes."""

    def __init__(self, registries: RegistryPool) -> None:
        self._registries = registries
        self._profiles: dict[tuple[str, int], Profile | None] = {}

    def describe(self) -> Iterator[Metric]:
        """The families without samples, so that registering reads no file."""
        return _families({})

    def collect(self) -> Iterator[Metric]:
        """The families as the registry is now; what cannot be read is logged and left out, so that the scrape goes on."""
        try:
            with self._registries.lend() as registry:
                profiles = dict(self._staged(registry))
        except RegistryError as error:
            _warn(error)
            profiles = {}
        return _families(profiles)

    def _staged(self, registry: Registry) -> Iterator[tuple[tuple[str, int], Profile]]:
        for model in registry.models():
            try:
                state = registry.state(model)
                for version in {state.production, state.staging} - {None}:
                    if version is not None and (found := self._profile(registry, model, version)) is not None:
                        yield (model, version), found
            except RegistryError as error:
                _warn(error)

    def _profile(self, registry: Registry, model: str, version: int) -> Profile | None:
        key = (model, version)
        if key not in self._profiles:
            present = bundle.PROFILE in registry.manifest(model, version).files
            self._profiles[key] = profile.parse(registry.read(model, version, bundle.PROFILE)) if present else None
        return self._profiles[key]


def shares(feature: Feature) -> list[float]:
    """The share of the reference rows in each of `feature.bins`; zeros if there are no rows."""
    total = sum(feature.reference) or 1
    return [count / total for count in feature.reference]


def distribution(feature: NumericFeature) -> list[float]:
    """The share of the present reference values at or under each edge, `inf` included; the missing have no place in it."""
    present = feature.reference[:-1]
    total = sum(present) or 1
    return [count / total for count in accumulate(present)]


def _families(profiles: dict[tuple[str, int], Profile]) -> Iterator[Metric]:
    share = GaugeMetricFamily("tidegate_drift_reference_share", "Share of the reference rows in a bin", labels=(*_FEATURE, "bin"))
    cdf = GaugeMetricFamily("tidegate_drift_reference_cdf", "Share of the reference values at or under an edge", labels=(*_FEATURE, "edge"))
    rows = GaugeMetricFamily("tidegate_drift_reference_rows", "Rows of the reference", labels=_VERSION)
    for (model, version), reference in profiles.items():
        rows.add_metric((model, str(version)), reference.rows)
        for feature in reference.features:
            labels = (model, str(version), feature.name)
            for name, value in zip(feature.bins, shares(feature), strict=True):
                share.add_metric((*labels, name), value)
            if isinstance(feature, NumericFeature):
                for name, value in zip(feature.bins[:-1], distribution(feature), strict=True):
                    cdf.add_metric((*labels, name), value)
    yield from (share, cdf, rows)


def _warn(error: RegistryError) -> None:
    structlog.get_logger().warning("drift reference left out", error=str(error))
