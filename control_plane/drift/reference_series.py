"""What a version was like in training, as series that PromQL can compare counts with. Pure functions of a profile and an evaluation.

PromQL can neither merge bins nor compute p-values: which bins belong together, and from which value on a statistic is significant, are
therefore series of their own. Which versions are exposed is decided in `reference`.
"""

from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from registry import canonical
from registry.drift import SMOOTHING, merged
from registry.drift_shown import chosen
from registry.fields import integer, number, reading, record
from registry.profile import Feature, NumericFeature, Profile
from registry.significance import critical_chi2, critical_distance

FAMILIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "tidegate_drift_reference_rows": ("Rows of the reference", ()),
    "tidegate_drift_reference_share": ("Share of the reference rows in a bin", ("feature", "bin")),
    "tidegate_drift_reference_cdf": ("Share of the reference values at or under an edge", ("feature", "edge")),
    "tidegate_drift_reference_values": ("Reference rows in which a numeric feature is not missing", ("feature",)),
    "tidegate_drift_reference_psi_bin": ("1 for the merged bin that a bin belongs to in PSI", ("feature", "bin", "psi_bin")),
    "tidegate_drift_reference_psi_share": ("Smoothed share of the reference rows in a merged bin", ("feature", "psi_bin")),
    "tidegate_drift_reference_critical": (
        "From when a statistic is significant: PSI over (1/N + 1/M), KS over sqrt(1/N + 1/M)",
        ("feature", "statistic"),
    ),
    "tidegate_drift_limit": ("A limit of the profile: psi, psi_warn, ks or min_rows", ("limit",)),
    "tidegate_evaluation_auc": ("AUC on the held-out rows", ()),
    "tidegate_evaluation_minority_share": ("Share of the rarer of the two outcomes among the held-out rows", ()),
}
"""Help and labels, after model and version, of each family."""


class Series(NamedTuple):
    """One sample of a version: its family, the values of the family's labels, and its value."""

    family: str
    labels: tuple[str, ...]
    value: float


def drift_series(profile: Profile, most: int) -> Iterator[Series]:
    """Everything recording rules need to judge counts in the bins of the `most` important inputs of `profile` and of its predictions.

    A feature without reference rows gets no shares to compare with, and one without reference values no distribution function: nothing can
    have drifted from nothing.
    """
    yield Series("tidegate_drift_reference_rows", (), profile.rows)
    limits = profile.limits
    for name, limit in (("psi", limits.psi), ("psi_warn", limits.psi_warn), ("ks", limits.ks), ("min_rows", limits.min_rows)):
        yield Series("tidegate_drift_limit", (name,), limit)
    rate = limits.false_discovery_rate / max(1, len(profile.features))
    for feature in [profile.features[place] for place in chosen(profile, most)]:
        if any(feature.reference):
            yield from _shares(feature)
            yield from _merged_shares(feature, rate)
        if isinstance(feature, NumericFeature) and any(feature.reference[:-1]):
            yield from _distribution(feature, rate)


def evaluation_series(raw: bytes) -> Iterator[Series]:
    """What `evaluation.json` promises of the version, to compare live quality with.

    Raises:
        FormatError: if it is no evaluation.
    """
    value = canonical.decode(raw, "evaluation.json")
    with reading("evaluation.json"):
        rows, positives = integer(value, "rows", 1), integer(value, "positives", 0)
        auc = number(record(record(value, "metrics"), "auc"), "value")
        if positives > rows:
            raise ValueError("more positives than rows")
    yield Series("tidegate_evaluation_auc", (), auc)
    yield Series("tidegate_evaluation_minority_share", (), min(positives, rows - positives) / rows)


def _shares(feature: Feature) -> Iterator[Series]:
    total = sum(feature.reference)
    for name, count in zip(feature.bins, feature.reference, strict=True):
        yield Series("tidegate_drift_reference_share", (feature.name, name), count / total)


def _merged_shares(feature: Feature, rate: float) -> Iterator[Series]:
    # Each bin counted alone tells where `merged` puts it; a merged bin is named after the last, whose upper edge is its own.
    places = [int(np.argmax(merged(feature, alone))) for alone in np.eye(len(feature.bins), dtype=np.int64)]
    names = dict(zip(places, feature.bins, strict=True))
    for name, place in zip(feature.bins, places, strict=True):
        yield Series("tidegate_drift_reference_psi_bin", (feature.name, name, names[place]), 1)
    counts = merged(feature, np.asarray(feature.reference, np.int64)) + SMOOTHING
    for place, share in enumerate(counts / counts.sum()):
        yield Series("tidegate_drift_reference_psi_share", (feature.name, names[place]), float(share))
    yield Series("tidegate_drift_reference_critical", (feature.name, "psi"), critical_chi2(len(counts) - 1, rate / _tests(feature)))


def _distribution(feature: NumericFeature, rate: float) -> Iterator[Series]:
    present = feature.reference[:-1]
    total = sum(present)
    for name, count in zip(feature.bins[:-1], accumulate(present), strict=True):
        yield Series("tidegate_drift_reference_cdf", (feature.name, name), count / total)
    yield Series("tidegate_drift_reference_values", (feature.name,), total)
    yield Series("tidegate_drift_reference_critical", (feature.name, "ks"), critical_distance(rate / _tests(feature)))


def _tests(feature: Feature) -> int:
    # Bonferroni over the tests of one feature, as `drift.evaluate`; over the features too, where Benjamini-Hochberg needs all p-values.
    return 3 if isinstance(feature, NumericFeature) else 2
