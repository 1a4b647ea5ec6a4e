"""What counts in the bins of a profile say: PSI, KS, their p-values, and whether a feature drifted. Pure functions of integers.

Neither the bins (`profile`) nor the counting (the daemon) live here, and nothing remembers an earlier window: that a drift has to
persist is for whoever keeps windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from registry.drift_limits import DEFAULT_LIMITS, Limits
from registry.errors import FormatError
from registry.profile import Counts, Feature, NumericFeature, Profile

if TYPE_CHECKING:
    from types import ModuleType

Kind: TypeAlias = Literal["numeric", "categorical"]

PSI_BINS = 10
SMOOTHING = 0.5


@dataclass(frozen=True)
class FeatureDrift:
    """What the observed rows of one feature say against its reference.

    `observed` and `reference` are counts in `bins` (the last is `missing`); `ks` is None for a categorical feature; `p_value` is
    adjusted for the number of features; `drifted` judges these rows alone, by `limits`.
    """

    name: str
    kind: Kind
    bins: tuple[str, ...]
    observed: tuple[int, ...]
    reference: tuple[int, ...]
    rows: int
    psi: float
    ks: float | None
    p_value: float
    drifted: bool
    limits: Limits = DEFAULT_LIMITS

    @property
    def warned(self) -> bool:
        """Whether the index is worth a look, drifted or not."""
        return self.rows >= self.limits.min_rows and self.psi >= self.limits.psi_warn


def psi(observed: Counts, reference: Counts) -> float:
    """Population stability index of two counts [bins] in the same bins, smoothed; 0.0 if either side has no rows."""
    if not np.sum(observed) or not np.sum(reference):
        return 0.0
    return divergence(_smoothed(reference), _smoothed(observed))


def divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Symmetric relative entropy of two distributions [bins] without zeros: `sum (q-p) ln(q/p)`, in nats."""
    return float(np.sum((q - p) * np.log(q / p)))


def ks(observed: Counts, reference: Counts) -> float:
    """Largest difference of the distribution functions at the bin edges, for counts [bins] of a numeric feature.

    The last bin, `missing`, is left out. At most the largest reference bin share below the statistic of the values themselves;
    0.0 if either side has no value.
    """
    ours, theirs = np.cumsum(observed[:-1]), np.cumsum(reference[:-1])
    if not ours[-1] or not theirs[-1]:
        return 0.0
    return float(np.max(np.abs(ours / ours[-1] - theirs / theirs[-1])))


def merged(feature: Feature, counts: Counts) -> Counts:
    """Counts [bins] in the bins PSI is computed on: for a numeric feature at most ten, made by adding neighbours, and `missing`."""
    values = len(counts) - 1
    if not isinstance(feature, NumericFeature) or values <= PSI_BINS:
        return counts
    starts = np.unique(-(-np.arange(PSI_BINS) * values // PSI_BINS))
    return np.append(np.add.reduceat(counts[:-1], starts), counts[-1])


def evaluate(profile: Profile, observed: Sequence[Counts]) -> tuple[FeatureDrift, ...]:
    """Compare `observed`, one int64 [bins] for each of `profile.features` and in that order, with the reference, by its limits.

    Raises:
        FormatError: if the counts do not fit the bins of the profile.
    """
    features = profile.features
    if [len(feature.bins) for feature in features] != [len(counts) for counts in observed]:
        raise FormatError("the counts do not fit the bins of the profile: they belong to another version")
    cases = [
        (feature, np.asarray(counts, np.int64), np.asarray(feature.reference, np.int64))
        for feature, counts in zip(features, observed, strict=True)
    ]
    adjusted = benjamini_hochberg(np.asarray([_p_value(*case) for case in cases], np.float64))
    return tuple(_judge(*case, float(p), profile.limits) for case, p in zip(cases, adjusted, strict=True))


def benjamini_hochberg(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjusted p-values [n]: rejecting those below a rate keeps the expected share of false rejections below it."""
    order = np.argsort(p)[::-1]
    steps = p[order] * len(p) / np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(steps))
    return adjusted


def _judge(feature: Feature, observed: Counts, reference: Counts, p_value: float, limits: Limits) -> FeatureDrift:
    numeric = isinstance(feature, NumericFeature)
    index = psi(merged(feature, observed), merged(feature, reference))
    distance = ks(observed, reference) if numeric else None
    rows = int(observed.sum())
    effect = index >= limits.psi or (distance is not None and distance >= limits.ks)
    return FeatureDrift(
        name=feature.name,
        kind="numeric" if numeric else "categorical",
        bins=feature.bins,
        observed=tuple(observed.tolist()),
        reference=tuple(reference.tolist()),
        rows=rows,
        psi=index,
        ks=distance,
        p_value=p_value,
        drifted=effect and p_value < limits.false_discovery_rate and rows >= limits.min_rows,
        limits=limits,
    )


def _p_value(feature: Feature, observed: Counts, reference: Counts) -> float:
    tests = [_p_psi(merged(feature, observed), merged(feature, reference))]
    if isinstance(feature, NumericFeature):
        tests.append(_p_ks(observed, reference))
    # Bonferroni over the tests of one feature: 2 min(p_psi, p_ks), or the one there is.
    return min(1.0, len(tests) * min(tests))


def _p_psi(observed: Counts, reference: Counts) -> float:
    # Without drift PSI is distributed as (1/N + 1/M) chi2(bins - 1): Yurdakul 2018, "Statistical properties of population stability index".
    rows, rows_reference = int(observed.sum()), int(reference.sum())
    if not rows or not rows_reference:
        return 1.0
    scale = 1 / rows + 1 / rows_reference
    return float(_special().chdtrc(len(observed) - 1, psi(observed, reference) / scale))


def _p_ks(observed: Counts, reference: Counts) -> float:
    # Kolmogorov's limit; binning can only lower the statistic, so this errs towards no alarm.
    rows, rows_reference = int(observed[:-1].sum()), int(reference[:-1].sum())
    if not rows or not rows_reference:
        return 1.0
    return float(_special().kolmogorov(np.sqrt(rows * rows_reference / (rows + rows_reference)) * ks(observed, reference)))


def _smoothed(counts: Counts) -> NDArray[np.float64]:
    smoothed = counts.astype(np.float64) + SMOOTHING
    return smoothed / np.float64(smoothed.sum())


@cache
def _special() -> "ModuleType":
    # Takes as long to import as everything else here together, and only a verdict needs it: counting must not wait for it.
    import scipy.special  # noqa: PLC0415

    return scipy.special
