"""What counts in the bins of a profile say: PSI, KS, and whether a feature drifted. Pure functions of integers.

Neither the bins (`profile`), the p-values (`significance`) nor the counting (the daemon) live here, and nothing remembers an earlier
window: that a drift has to persist is for whoever keeps windows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from registry.drift_limits import DEFAULT_LIMITS, Limits
from registry.errors import FormatError
from registry.profile import Counts, Feature, NumericFeature, Profile
from registry.significance import Shares, benjamini_hochberg, effective_rows, p_bins, p_distance

Kind: TypeAlias = Literal["numeric", "categorical"]

PSI_BINS = 10
SMOOTHING = 0.5
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
    tests = [*p_bins(ours, theirs)]
    distance: list[float] | list[None] = [None] * len(index)
    if isinstance(feature, NumericFeature):
        distances = ks(observed, reference)
        tests.append(p_distance(distances, observed[..., :-1], reference[..., :-1]))
        distance = distances.tolist()
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
    by_chance = np.maximum(held.sum(axis=-1) - 1, 0) / np.maximum(effective_rows(observed, reference), 0.5)
    return np.where(_both(observed, reference), np.maximum(0.0, divergence(p, q) - by_chance), 0.0)


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


def _distribution(counts: Counts) -> Shares:
    sums = counts.cumsum(axis=-1)
    return np.asarray(sums / np.maximum(sums[..., -1:], 1))


def _smoothed(counts: Counts, by: float | Shares) -> Shares:
    smoothed = counts + by
    return np.asarray(smoothed / np.maximum(smoothed.sum(axis=-1, keepdims=True), SMOOTHING))
