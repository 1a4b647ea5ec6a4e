"""The spec file: what to train, on which columns, judged how. TOML in, a frozen and checked `Spec` out; reads no data."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from registry.drift_limits import DEFAULT_LIMITS, Limits, Window
from registry.errors import InvalidNameError
from registry.names import check_name
from registry.profile import CLASS, SCORE
from training.errors import SpecError


@dataclass(frozen=True)
class Parameter:
    """What a search may do with one parameter of an algorithm: the smallest and the largest value that make sense."""

    low: float
    high: float
    integer: bool = False


ALGORITHMS: Mapping[str, Mapping[str, Parameter]] = {
    "logistic-regression": {"C": Parameter(1e-6, 1e6)},
    "gradient-boosting": {
        "learning_rate": Parameter(1e-4, 1.0),
        "n_estimators": Parameter(1, 5000, integer=True),
        "max_depth": Parameter(1, 32, integer=True),
        "min_samples_leaf": Parameter(1, 100_000, integer=True),
        "subsample": Parameter(0.05, 1.0),
    },
}


class Table(BaseModel):
    """A table of the spec file. A key it does not know is an error that names the nearest one it does."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            _check_known(value, cls.model_fields, "key")
        return value


class Range(Table):
    """Where the search looks: `low` to `high`, both included; on a logarithmic scale if `log`."""

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


class ModelTable(Table):
    """`[model]`: its name in the registry, and what the card says it is for and not for."""

    name: str
    purpose: str = ""
    limits: tuple[str, ...] = ()

    @field_validator("name")
    @classmethod
    def _allowed(cls, name: str) -> str:
        try:
            return check_name(name)
        except InvalidNameError as error:
            raise ValueError(str(error)) from error


class DataTable(Table):
    """`[data]`: a CSV or Parquet file, relative to the spec file, and the role of each column.

    `missing` are the texts that mean "no value" in a CSV file; `columns` says in words what columns mean, for the data card.
    `derived` are columns computed from those of the same row: SQL expressions by name. `time` names the column by which rows before
    `since`, from `until` on, or without a time are left out; without an offset times are UTC.
    """

    path: str
    outcome: str
    positive: str
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    missing: tuple[str, ...] = ("",)
    source: str = ""
    derived: Mapping[str, str] = Field(default_factory=dict)
    time: str = ""
    since: datetime | None = None
    until: datetime | None = None
    columns: Mapping[str, str] = Field(default_factory=dict)

    @property
    def features(self) -> tuple[str, ...]:
        """The columns the model sees: numeric, then categorical."""
        return (*self.numeric, *self.categorical)

    @field_validator("since", "until")
    @classmethod
    def _utc(cls, limit: datetime | None) -> datetime | None:
        return limit.replace(tzinfo=UTC) if limit is not None and limit.tzinfo is None else limit

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.time and (self.since or self.until):
            raise ValueError("since and until need time, the name of the column they are about")
        if self.since and self.until and self.since >= self.until:
            raise ValueError(f"since {self.since.isoformat()} is not before until {self.until.isoformat()}: no row would be left")
        return self

    @model_validator(mode="after")
    def _roles(self) -> Self:
        if not self.features:
            raise ValueError("name at least one numeric or categorical column")
        if repeated := sorted({name for name in self.features if self.features.count(name) > 1}):
            raise ValueError(f"{', '.join(repeated)} named twice; a column has one role")
        if self.outcome in self.features:
            raise ValueError(f"{self.outcome} is the outcome and cannot be a feature")
        if taken := sorted({SCORE, CLASS}.intersection(self.features)):
            raise ValueError(f"a feature cannot be called {taken[0]!r}: drift calls a prediction so; give the column another name")
        return self


class FairnessTable(Table):
    """`[fairness]`: the protected attribute, never a feature; its privileged value; the outcome that is good for the person."""

    attribute: str
    privileged: str
    favourable: str


class EvaluationTable(Table):
    """`[evaluation]`: the held-out share, the seed of everything random, bootstrap resamples, and the threshold.

    A row is decided positive where P(positive) >= `threshold`.
    """

    holdout: float = Field(0.3, ge=0.05, le=0.9)
    seed: int = Field(0, ge=0, lt=2**32)
    bootstraps: int = Field(500, ge=20, le=100_000)
    threshold: float = Field(0.5, gt=0, lt=1)


class DriftTable(Table):
    """`[drift]`: what counts as drift of a version trained by this spec. The keys and their meaning are those of `Limits`."""

    psi: float = DEFAULT_LIMITS.psi
    psi_warn: float = DEFAULT_LIMITS.psi_warn
    ks: float = DEFAULT_LIMITS.ks
    false_discovery_rate: float = DEFAULT_LIMITS.false_discovery_rate
    min_rows: int = DEFAULT_LIMITS.min_rows
    consecutive: int = DEFAULT_LIMITS.consecutive
    windows: tuple[str, ...] = tuple(map(str, DEFAULT_LIMITS.windows))

    def limits(self) -> Limits:
        """The value a profile carries."""
        return Limits(**{**self.model_dump(), "windows": tuple(map(Window.parse, self.windows))})

    @model_validator(mode="after")
    def _make_sense(self) -> Self:
        self.limits()
        return self


class Candidate(Table):
    """One of `[[candidates]]`: an algorithm, how many trials its search gets, and the range of each parameter that is searched."""

    algorithm: Literal["logistic-regression", "gradient-boosting"]
    trials: int = Field(10, ge=1, le=10_000)
    search: Mapping[str, Range] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        known = ALGORITHMS[self.algorithm]
        _check_known(self.search, known, f"parameter of {self.algorithm}")
        for name, limits in self.search.items():
            _check_range(name, limits, known[name])
        return self


class Spec(Table):
    """A whole spec file."""

    model: ModelTable
    data: DataTable
    fairness: FairnessTable | None = None
    evaluation: EvaluationTable = Field(default_factory=EvaluationTable)
    drift: DriftTable = Field(default_factory=DriftTable)
    candidates: tuple[Candidate, ...] = Field(min_length=1)

    def replaced(self, *, trials: int | None, seed: int | None) -> "Spec":
        """The same spec with other trials for every candidate, or another seed, where one is given; SpecError if it makes no sense."""
        value = self.model_dump()
        for candidate in value["candidates"]:
            candidate["trials"] = candidate["trials"] if trials is None else trials
        value["evaluation"]["seed"] = value["evaluation"]["seed"] if seed is None else seed
        try:
            return Spec.model_validate(value)
        except ValidationError as error:
            raise SpecError(_one_line(error.errors())) from error

    @model_validator(mode="after")
    def _agree(self) -> Self:
        known = {*self.data.features, self.data.outcome}
        if self.fairness is not None:
            if self.fairness.attribute in known:
                raise ValueError(
                    f"fairness.attribute {self.fairness.attribute!r} is also the outcome or a feature: the model may not see it"
                )
            known.add(self.fairness.attribute)
        _check_known(self.data.columns, known, "column in data.columns")
        return self


def load(path: Path) -> Spec:
    """Read and check a spec file.

    Raises:
        SpecError: if it cannot be read, is not TOML, has a key nobody knows, lacks one, or a value makes no sense.
    """
    try:
        return Spec.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SpecError(f"cannot read the spec file {path}: {error.strerror}") from error
    except ValidationError as error:
        raise SpecError(f"{path.name}: {_one_line(error.errors())}") from error
    except ValueError as error:
        raise SpecError(f"{path.name} is not TOML: {error}") from error


def _check_known(found: Iterable[str], known: Iterable[str], what: str) -> None:
    names = list(known)
    for key in found:
        if key not in names:
            near = difflib.get_close_matches(key.lower(), names, n=1, cutoff=0.5)
            advice = f"did you mean {near[0]!r}?" if near else f"use {', '.join(names)}"
            raise ValueError(f"unknown {what} {key!r}: {advice}")


def _check_range(name: str, limits: Range, parameter: Parameter) -> None:
    if limits.low < parameter.low or limits.high > parameter.high:
        raise ValueError(f"{name} must lie between {parameter.low:g} and {parameter.high:g}")
    if parameter.integer and not (isinstance(limits.low, int) and isinstance(limits.high, int)):
        raise ValueError(f"{name} takes whole numbers")


def _one_line(errors: list[ErrorDetails]) -> str:
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"])
    text = first["msg"].removeprefix("Value error, ").replace("\n", " ")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{place}: {text}{more}" if place else f"{text}{more}"
