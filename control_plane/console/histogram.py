"""A histogram of reference and observed shares as places on a page, and in words. Pure; the template writes it as SVG."""

from dataclasses import dataclass
from itertools import pairwise

from registry.drift import FeatureDrift

WIDTH, HEIGHT, _GAP = 640, 160, 0.3
_INFINITE = "inf"


@dataclass(frozen=True)
class Bar:
    """One bin: its label, the two shares of 0 to 1, and where they are drawn in a picture whose y grows downwards."""

    label: str
    reference: float
    observed: float
    x: float
    reference_y: float
    observed_y: float


@dataclass(frozen=True)
class Drawing:
    """The histogram of one feature; `text` says what it shows to who does not see it."""

    feature: str
    text: str
    bars: tuple[Bar, ...]
    bar_width: float
    width: int = WIDTH
    height: int = HEIGHT
    baseline: int = HEIGHT - 1


def draw(feature: FeatureDrift) -> Drawing:
    """The shares of the rows in each bin of a feature; zeros where there are no rows."""
    reference, observed = _shares(feature.reference), _shares(feature.observed)
    labels = bin_labels(feature)
    step = WIDTH / len(labels)
    scale = (HEIGHT - 1) / (max(*reference, *observed) or 1)
    bars = tuple(
        Bar(label, expected, seen, round(place * step + step * _GAP / 2, 1), _y(expected, scale), _y(seen, scale))
        for place, (label, expected, seen) in enumerate(zip(labels, reference, observed, strict=True))
    )
    return Drawing(feature.name, _text(feature, bars), bars, round(step * (1 - _GAP) / 2, 1))


def bin_labels(feature: FeatureDrift) -> tuple[str, ...]:
    """The bins as people read them: `up to 1.5`, `above 1.5 up to 2`, `above 2`, or a category's value; `(missing)` is no value."""
    if feature.kind != "numeric":
        return tuple(name[1:] if name.startswith("=") else f"({name})" for name in feature.bins)
    *edges, missing = feature.bins
    first = "any" if edges[0] == _INFINITE else f"up to {edges[0]}"
    between = [f"above {low}" if high == _INFINITE else f"above {low} up to {high}" for low, high in pairwise(edges)]
    return (first, *between, f"({missing})")


def _shares(counts: tuple[int, ...]) -> tuple[float, ...]:
    total = sum(counts) or 1
    return tuple(count / total for count in counts)


def _y(share: float, scale: float) -> float:
    return round(HEIGHT - 1 - share * scale, 1)


def _text(feature: FeatureDrift, bars: tuple[Bar, ...]) -> str:
    if not feature.rows:
        return "No rows have been observed."
    most = max(bars, key=lambda bar: abs(bar.observed - bar.reference))
    return f"The share that changed most is that of {most.label}: {most.reference:.1%} of the reference, {most.observed:.1%} observed."
