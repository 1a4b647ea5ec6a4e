"""What counts in the bins of a profile say: PSI, KS, their p-values, and whether a feature drifted. Pure functions of integers.

Neither the bins (`profile`) nor the counting (the daemon) live here, and nothing remembers an earlier window: that a drift has to
persist is for whoever keeps windows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from registry.drift_limits import DEFAULT_LIMITS, Limits
from registry.errors import FormatError
from registry.profile import Counts, Feature, NumericFeature, Profile

if TYPE_CHECKING:
    from types import ModuleType

Kind: TypeAlias = Literal["numeric", "categorical"]
Shares: TypeAlias = NDArray[np.float64]

PSI_BINS = 10
SMOOTHING = 0.5
RARE = 5
"""Rows that a bin would hold without drift, on the smaller side, below which chi2 is no good approximation"""
SETTLED = 10
"""Reference rows of a value below which its share is not known well enough to be held against later rows"""


@dataclass(frozen=True)
class FeatureDrift:
    """What the observed rows of one feature say against its reference.

    `observed` and `reference` are counts in `bins` (the last is `missing`); `psi` is the plain index, `excess` what the limits judge:
    the index of the bins that the reference has enough rows of, less its mean without drift; `ks` is None for a categorical feature;
    `p_value` is adjusted for the number of features; `drifted` judges these rows alone.
    """

    name: str
    kind: Kind
    bins: tuple[str, ...]
    observed: tuple[int, ...]
    reference: tuple[int, ...]
    rows: int
    psi: float
    excess: float
    ks: float | None
    p_value: float
    drifted: bool
    limits: Limits = DEFAULT_LIMITS

    @property
    def warned(self) -> bool:
        """Whether the change is no chance and worth a look, drifted or not."""
        limits = self.limits
        return self.excess >= limits.psi_warn and self.p_value < limits.false_discovery_rate and self.rows >= limits.min_rows


def psi(observed: Counts, reference: Counts) -> Shares:
    """Population stability index of counts [..., bins] in the same bins, smoothed: [...]; 0.0 where either side has no rows."""
    return np.where(_both(observed, reference), divergence(_smoothed(reference, SMOOTHING), _smoothed(observed, SMOOTHING)), 0.0)


def divergence(p: Shares, q: Shares) -> Shares:
    """Symmetric relative entropy of distributions [..., bins] without zeros: `sum (q-p) ln(q/p)`, in nats: [...]."""
    return np.asarray(np.sum((q - p) * np.log(q / p), axis=-1))


def ks(observed: Counts, reference: Counts) -> Shares:
    """Largest difference of the distribution functions at the bin edges, for counts [..., bins] of numeric features: [...].

    The last bin, `missing`, is left out. At most the largest reference bin share below the statistic of the values themselves;
    0.0 where either side has no value.
    """
    ours, theirs = observed[..., :-1], reference[..., :-1]
    return np.where(_both(ours, theirs), np.abs(_distribution(ours) - _distribution(theirs)).max(axis=-1), 0.0)


def merged(feature: Feature, counts: Counts) -> Counts:
    """Counts [..., bins] in the bins PSI is computed on: for a numeric feature at most ten, made by adding neighbours, and `missing`."""
    values = counts.shape[-1] - 1
    if not isinstance(feature, NumericFeature) or values <= PSI_BINS:
        return counts
    starts = np.unique(-(-np.arange(PSI_BINS) * values // PSI_BINS))
    return np.concatenate([np.add.reduceat(counts[..., :-1], starts, axis=-1), counts[..., -1:]], axis=-1)


def evaluate(profile: Profile, observed: Sequence[Counts]) -> tuple[FeatureDrift, ...]:
    """Compare `observed`, one int64 [bins] for each of `profile.features` and in that order, with the reference, by its limits.

    Raises:
        FormatError: if the counts do not fit the bins of the profile.
    """
    features = profile.features
    if [len(feature.reference) for feature in features] != [len(counts) for counts in observed]:
        raise FormatError("the counts do not fit the bins of the profile: they belong to another version")
    found: dict[int, _Comparison] = {}
    for places in _alike(features):
        ours = np.asarray([observed[place] for place in places], np.int64)
        theirs = np.asarray([features[place].reference for place in places], np.int64)
        found |= zip(places, _compare(features[places[0]], ours, theirs), strict=True)
    comparisons = [found[place] for place in range(len(features))]
    adjusted = benjamini_hochberg(np.asarray([comparison.p_value for comparison in comparisons], np.float64))
    return tuple(map(partial(_judge, profile.limits), features, observed, comparisons, adjusted.tolist()))


def benjamini_hochberg(p: Shares) -> Shares:
    """Adjusted p-values [n]: rejecting those below a rate keeps the expected share of false rejections below it."""
    order = np.argsort(p)[::-1]
    steps = p[order] * len(p) / np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(steps))
    return adjusted


class _Comparison(NamedTuple):
    """Of one feature: what `FeatureDrift` says of it, before the p-value is adjusted."""

    rows: int
    psi: float
    excess: float
    ks: float | None
    p_value: float


def _alike(features: Sequence[Feature]) -> Iterable[list[int]]:
    """Places of the features that have the same kind and number of bins: what is compared in one step."""
    groups: dict[tuple[type, int], list[int]] = {}
    for place, feature in enumerate(features):
        groups.setdefault((type(feature), len(feature.reference)), []).append(place)
    return groups.values()


def _compare(feature: Feature, observed: Counts, reference: Counts) -> Iterable[_Comparison]:
    """Compare counts [features, bins] of features that are like `feature` in kind and number of bins."""
    ours, theirs = merged(feature, observed), merged(feature, reference)
    index = psi(ours, theirs)
    if not isinstance(feature, NumericFeature):
        ours, theirs = _settled(ours, theirs)
    excess = _excess(ours, theirs)
    rare = _rare(ours, theirs)
    tests = [_p_chi2(np.where(rare, 0, ours), np.where(rare, 0, theirs)), _p_rare(ours, theirs, rare)]
    distance: list[float] | list[None] = [None] * len(index)
    if isinstance(feature, NumericFeature):
        tests.append(_p_ks(observed, reference))
        distance = ks(observed, reference).tolist()
    # Bonferroni over the tests of one feature.
    p = np.where(_both(observed, reference), np.minimum(1.0, len(tests) * np.min(tests, axis=0)), 1.0)
    return map(_Comparison, observed.sum(axis=-1).tolist(), index.tolist(), excess.tolist(), distance, p.tolist())


def _settled(observed: Counts, reference: Counts) -> tuple[Counts, Counts]:
    """Both, with `other` in place of the values that the reference holds too few rows of.

    Values have bins because the reference holds more of them than of others, and where they are few that is luck: later rows would
    hold fewer of them and more of `other`, and seem to have drifted.
    """
    few = reference[..., :-2] < SETTLED
    return _moved(observed, few), _moved(reference, few)


def _moved(counts: Counts, few: NDArray[np.bool_]) -> Counts:
    values, other = counts[..., :-2], counts[..., -2:-1] + np.sum(counts[..., :-2], axis=-1, where=few, keepdims=True)
    return np.concatenate([np.where(few, 0, values), other, counts[..., -1:]], axis=-1)


def _excess(observed: Counts, reference: Counts) -> Shares:
    """PSI less its mean without drift, over the bins that hold a row: smoothing of the others would be an index by itself."""
    held = np.logical_or(observed, reference)
    p, q = (np.where(held, _smoothed(counts, SMOOTHING * held), 1.0) for counts in (reference, observed))
    # Without drift PSI is distributed as (1/N + 1/M) chi2(bins - 1): Yurdakul 2018, "Statistical properties of population stability index".
    # One row on each side is half an effective row.
    by_chance = np.maximum(held.sum(axis=-1) - 1, 0) / np.maximum(_effective_rows(observed, reference), 0.5)
    return np.where(_both(observed, reference), np.maximum(0.0, divergence(p, q) - by_chance), 0.0)


def _rare(observed: Counts, reference: Counts) -> NDArray[np.bool_]:
    """Which bins [..., bins] would hold under `RARE` rows of the smaller side if nothing drifted (Cochran 1954)."""
    rows, rows_reference = _rows(observed)[..., np.newaxis], _rows(reference)[..., np.newaxis]
    return np.asarray((observed + reference) * np.minimum(rows, rows_reference) < RARE * (rows + rows_reference))


def _p_chi2(observed: Counts, reference: Counts) -> Shares:
    # Pearson's test of homogeneity. To first order its statistic is PSI / (1/N + 1/M), but it keeps to chi2 where a bin is almost empty.
    total = observed + reference
    squares = (_shares(observed) - _shares(reference)) ** 2 / np.maximum(total, 1)
    freedom = np.count_nonzero(total, axis=-1) - 1
    p = _special().chdtrc(np.maximum(freedom, 1), squares.sum(axis=-1) * _rows(observed) * _rows(reference))
    return np.where(freedom > 0, p, 1.0)


def _p_rare(observed: Counts, reference: Counts, rare: NDArray[np.bool_]) -> Shares:
    # Without drift a row of the rare bins is an observed one as often as any row: binomial, and exact enough for very few of them.
    ours, theirs = np.sum(observed, axis=-1, where=rare), np.sum(reference, axis=-1, where=rare)
    share = _rows(observed) / np.maximum(_rows(observed) + _rows(reference), 1.0)
    as_many, as_few = _special().betainc(ours, theirs + 1, share), _special().betainc(theirs, ours + 1, 1 - share)
    return np.asarray(np.minimum(1.0, 2 * np.minimum(as_many, as_few)))


def _p_ks(observed: Counts, reference: Counts) -> Shares:
    # Kolmogorov's limit; binning can only lower the statistic, so this errs towards no alarm.
    rows = _effective_rows(observed[..., :-1], reference[..., :-1])
    return np.asarray(_special().kolmogorov(np.sqrt(rows) * ks(observed, reference)))


def _judge(limits: Limits, feature: Feature, observed: Counts, found: _Comparison, p_value: float) -> FeatureDrift:
    effect = found.excess >= limits.psi or (found.ks is not None and found.ks >= limits.ks)
    return FeatureDrift(
        name=feature.name,
        kind="numeric" if isinstance(feature, NumericFeature) else "categorical",
        bins=feature.bins,
        observed=tuple(observed.tolist()),
        reference=feature.reference,
        rows=found.rows,
        psi=found.psi,
        excess=found.excess,
        ks=found.ks,
        p_value=p_value,
        drifted=effect and p_value < limits.false_discovery_rate and found.rows >= limits.min_rows,
        limits=limits,
    )


def _both(observed: Counts, reference: Counts) -> NDArray[np.bool_]:
    return np.logical_and(observed.any(axis=-1), reference.any(axis=-1))


def _rows(counts: Counts) -> Shares:
    """Rows of counts [..., bins], as floats: the product of two of them would overflow."""
    return np.asarray(counts.sum(axis=-1), np.float64)


def _effective_rows(observed: Counts, reference: Counts) -> Shares:
    """`1 / (1/N + 1/M)` for counts [..., bins] of N and M rows; 0 where there are none."""
    return np.asarray(_rows(observed) / np.maximum(_rows(observed) + _rows(reference), 1.0) * _rows(reference))


def _shares(counts: Counts) -> Shares:
    return np.asarray(counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1))


def _distribution(counts: Counts) -> Shares:
    sums = counts.cumsum(axis=-1)
    return np.asarray(sums / np.maximum(sums[..., -1:], 1))


def _smoothed(counts: Counts, by: float | Shares) -> Shares:
    smoothed = counts + by
    return np.asarray(smoothed / np.maximum(smoothed.sum(axis=-1, keepdims=True), SMOOTHING))


@cache
def _special() -> "ModuleType":
    # Takes as long to import as everything else here together, and only a verdict needs it: counting must not wait for it.
    import scipy.special  # noqa: PLC0415

    return scipy.special
