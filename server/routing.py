"""Which loaded versions answer for which names: the immutable table that a transport routes by, and how a label is resolved in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from registry.names import PRODUCTION
from server.errors import ModelLoadingError, ModelUnknownError, VersionUnknownError
from server.loaded_version import LoadedVersion


@dataclass(frozen=True)
class ServedModel:
    """One model as it is served now.

    `versions` are those loaded; `stages` says which one each stage means (for production: the stable one); `registered` are the numbers
    registered, loaded or not. `split` gives the percent of production traffic of each version that answers it, all of them loaded, and is
    empty where the stable one answers all; `shadows` are the loaded versions that get a copy. `failures` says why a version that should be
    loaded is not.
    """

    versions: Mapping[int, LoadedVersion]
    stages: Mapping[str, int]
    registered: tuple[int, ...]
    split: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    shadows: tuple[int, ...] = ()
    failures: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def ready(self) -> bool:
        """Whether production traffic can be answered."""
        return self.stages.get(PRODUCTION) in self.versions


@dataclass(frozen=True)
class RoutingTable:
    """Everything the transports need to answer, one immutable value: a swap of a model or a stage is one `install` of a new table.

    `complete` says whether the registry has been read once: an empty table before that does not mean that there is nothing to serve.
    """

    models: Mapping[str, ServedModel] = field(default_factory=lambda: MappingProxyType({}))
    complete: bool = False

    @property
    def loaded(self) -> tuple[LoadedVersion, ...]:
        """All loaded versions of all models."""
        return tuple(version for model in self.models.values() for version in model.versions.values())

    def model(self, name: str) -> ServedModel:
        """The model of this name.

        Raises:
            ModelUnknownError: if there is none.
            ModelLoadingError: if the registry has not been read yet.
        """
        if name in self.models:
            return self.models[name]
        if not self.complete:
            raise ModelLoadingError("the daemon is still reading the registry")
        raise ModelUnknownError(f"no model {name[:80]!r}; served: {', '.join(sorted(self.models)) or 'none'}")

    def resolve(self, name: str, label: str) -> LoadedVersion:
        """The version that `label` means: an empty text is the production route, digits are a version, else it is a stage.

        Raises:
            ModelUnknownError, VersionUnknownError: if nothing of that name is served.
            ModelLoadingError: if it is known and not loaded yet.
        """
        served = self.model(name)
        number = _number(served, name, label)
        if number not in served.versions:
            raise ModelLoadingError(f"version {number} of {name!r} is not loaded")
        return served.versions[number]


def _number(served: ServedModel, name: str, label: str) -> int:
    if label.isascii() and label.isdigit() and len(label) < 20:  # noqa: PLR2004 -- more digits are no version, and slow to convert
        number = int(label)
        if number in served.versions or number in served.stages.values():
            return number
        loaded = ", ".join(map(str, sorted(served.versions))) or "none"
        hint = "; it is registered but in no stage: promote it first" if number in served.registered else ""
        raise VersionUnknownError(f"version {number} of {name!r} is not served{hint} (served: {loaded})")
    stage = label or PRODUCTION
    if stage not in served.stages:
        raise VersionUnknownError(f"model {name!r} has no version in {stage[:80]!r}; stages in use: {', '.join(served.stages) or 'none'}")
    return served.stages[stage]
