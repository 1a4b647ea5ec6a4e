"""Rows to try the drift alarm on: twenty columns of every sort, correlated or not, and the changes that may befall one of them.

No verdicts here. A column is a rising function of a standard normal variable, so that columns can be correlated, and its exact shares of
the bins are known for windows too large to draw.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from registry.profile import Counts, Feature, Profile, categorical_feature, numeric_feature

Floats: TypeAlias = NDArray[np.float64]
Values: TypeAlias = NDArray[np.float64] | NDArray[np.object_]

_GRID = 50_000
DRAWN = 5000
"""Rows up to which a window is drawn value by value; larger ones are drawn as counts, by the exact shares of the bins."""


@dataclass(frozen=True)
class Column:
    """A column: `make` turns standard normal values [n] into its values; then some go missing, and some become a value never seen."""

    name: str
    make: Callable[[Floats], Values]
    missing: float = 0.0
    strange: float = 0.0

    @property
    def categorical(self) -> bool:
        return _on_grid(self).dtype == object

    def values(self, normal: Floats, generator: np.random.Generator) -> Values:
        """Values [n] for standard normal ones [n]."""
        made = self.make(normal)
        for share, value in ((self.strange, "new"), (self.missing, "" if made.dtype == object else np.nan)):
            if share:
                made[generator.random(len(made)) < share] = value
        return made

    def feature(self, values: Values) -> Feature:
        """The reference `values` [n] as a feature of a profile."""
        return categorical_feature(self.name, values.tolist()) if self.categorical else numeric_feature(self.name, values.tolist())


@dataclass(frozen=True)
class Change:
    """What happens to one column: afterwards it is `column`."""

    what: str
    column: Column


def count(feature: Feature, values: Values) -> Counts:
    """Count `values` [n] in the bins of `feature`, as the daemon does."""
    return feature.count(values.astype(np.float32)) if values.dtype != object else feature.count(values)  # type: ignore[arg-type]


def profile(columns: tuple[Column, ...], rows: int, correlation: float, generator: np.random.Generator) -> Profile:
    """A profile of `rows` reference rows; the last two columns are predictions."""
    normal = _normal(len(columns), rows, correlation, generator)
    features = tuple(column.feature(column.values(row, generator)) for column, row in zip(columns, normal, strict=True))
    return Profile(rows, features[:-2], features[-2:])


def window(columns: tuple[Column, ...], profile: Profile, rows: int, correlation: float, generator: np.random.Generator) -> list[Counts]:
    """Counts in the bins of `profile` of `rows` new rows; more than `DRAWN` only without correlation."""
    if rows > DRAWN:
        return [_many(column, feature, rows, generator) for column, feature in zip(columns, profile.features, strict=True)]
    normal = _normal(len(columns), rows, correlation, generator)
    return [count(feature, column.values(row, generator)) for column, feature, row in zip(columns, profile.features, normal, strict=True)]


def one(column: Column, feature: Feature, rows: int, generator: np.random.Generator) -> Counts:
    """Counts of `rows` new values of one column by itself."""
    if rows > DRAWN:
        return _many(column, feature, rows, generator)
    return count(feature, column.values(generator.standard_normal(rows), generator))


def _many(column: Column, feature: Feature, rows: int, generator: np.random.Generator) -> Counts:
    return generator.multinomial(rows, _shares(column, feature))


def _normal(columns: int, rows: int, correlation: float, generator: np.random.Generator) -> Floats:
    own = generator.standard_normal((columns, rows))
    return own if not correlation else np.sqrt(1 - correlation) * own + np.sqrt(correlation) * generator.standard_normal(rows)


@lru_cache(maxsize=128)
def _shares(column: Column, feature: Feature) -> Floats:
    """The share of each bin of `feature` [bins] among all values there could be."""
    shares = count(feature, _on_grid(column)) / _GRID * (1 - column.strange) * (1 - column.missing)
    shares[-1] += column.missing
    shares[-2] += column.strange * (1 - column.missing)
    return np.asarray(shares)


@cache
def _on_grid(column: Column) -> Values:
    return column.make(ndtri((np.arange(_GRID) + 0.5) / _GRID))


def _identity(normal: Floats) -> Floats:
    return normal.copy()


def _heavy(normal: Floats) -> Floats:
    return np.asarray(normal * np.exp(0.15 * normal**2))  # tail index 3.3: Goerg 2015, Lambert W x Gaussian


def _lognormal(normal: Floats) -> Floats:
    return np.exp(1.5 * normal)


def _zero_inflated(normal: Floats) -> Floats:
    return np.maximum(normal - 0.25, 0.0)  # 60 % zeros


def _tied(normal: Floats) -> Floats:
    return np.maximum(np.floor(1.7 * normal + 3.5), 0.0)  # about ten whole numbers


def _probability(normal: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(1.5 - normal)))


def _category(values: int, steepness: float) -> Callable[[Floats], Values]:
    """As many `values`, of shares that fall as 1/rank^steepness."""
    weights = 1 / np.arange(1, values + 1) ** steepness
    cuts = ndtri(np.cumsum(weights)[:-1] / weights.sum())
    names = np.asarray([f"v{place:02}" for place in range(values)], dtype=object)
    return lambda normal: names[np.searchsorted(cuts, normal)]


COLUMNS = (
    *(Column(f"normal {place}", _identity) for place in range(4)),
    Column("heavy tails", _heavy),
    Column("lognormal", _lognormal),
    *(Column(f"zero-inflated {place}", _zero_inflated) for place in range(2)),
    *(Column(f"tied {place}", _tied) for place in range(2)),
    Column("1 % missing", _identity, missing=0.01),
    Column("30 % missing", _heavy, missing=0.3),
    *(
        Column(f"{values} values {'even' if not steep else 'steep'}", _category(values, steep))
        for values in (3, 12, 60)
        for steep in (0, 1.5)
    ),
    Column("score", _probability),
    Column("class", _category(2, 2)),
)


def shifted(by: float) -> Change:
    """A normal column moves by so many standard deviations."""
    return Change(f"shift of {by:g} sd", replace(COLUMNS[0], make=lambda normal: normal + by))


def _appearing(share: float) -> Change:
    return Change(f"new category, {100 * share:g} %", replace(_named("3 values even"), strange=share))


def _missing(share: float) -> Change:
    return Change(f"missing from 1 % to {100 * share:g} %", replace(_named("1 % missing"), missing=share))


def _named(name: str) -> Column:
    return next(column for column in COLUMNS if column.name == name)


SHIFTS = (0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 1.0)
CHANGES = (
    *map(shifted, SHIFTS),
    Change("spread x 1.5", replace(COLUMNS[0], make=lambda normal: 1.5 * normal)),
    *map(_appearing, (0.01, 0.05, 0.1, 0.2)),
    *map(_missing, (0.05, 0.15)),
)
