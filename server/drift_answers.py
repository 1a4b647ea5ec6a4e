"""What the transport has counted of drift, as GetDrift answers it. Pure; nothing is counted here, and nothing judged."""

from registry.drift import FeatureDrift
from registry.drift_limits import Window
from registry.drift_windows import DriftWindows
from server.counts import COUNTED_ARMS, PRODUCTION, DriftCounts
from server.errors import InputMismatchError
from server.loaded_version import LoadedVersion
from tidegate_protos import monitoring_pb2 as monitoring


def describe(version: LoadedVersion, counts: DriftCounts, window: str, arm: str) -> monitoring.GetDriftResponse:
    """The drift of one arm, or of production traffic, in the last completed window, or in all of the time.

    Raises:
        InputMismatchError: if there is no such window or arm: it names those there are.
    """
    if arm not in counts.arms:
        raise InputMismatchError(f"no arm {arm[:40]!r}: {', '.join(COUNTED_ARMS)}, or {PRODUCTION!r} for production traffic")
    windows = counts.arms[arm]
    asked = _window(windows, window) if window else None
    answer = monitoring.GetDriftResponse(
        model=version.model, version=str(version.number), window=str(asked or ""), arm=arm, uncounted=sorted(counts.uncounted)
    )
    span = windows.of(asked).last if asked else windows.everything
    if span is None:
        answer.started = windows.everything.started  # of the first window, which is still open
        return answer
    answer.rows, answer.started, answer.ended = span.tally.rows, span.started, span.ended
    persistent = windows.persistent(asked).tolist()
    answer.features.extend(
        _feature(feature, persistent=lasts)
        for feature, lasts in zip(span.features, persistent, strict=True)
        if feature.name not in counts.uncounted
    )
    return answer


def _window(windows: DriftWindows, text: str) -> Window:
    try:
        return windows.of(Window.parse(text)).window
    except (ValueError, KeyError):
        known = ", ".join(str(opened.window) for opened in windows.windows) or "none"
        message = f"no window {text[:40]!r}; those of this version: {known}; without one: everything since it was first loaded"
        raise InputMismatchError(message) from None


def _feature(feature: FeatureDrift, *, persistent: bool) -> monitoring.FeatureDrift:
    return monitoring.FeatureDrift(
        name=feature.name,
        kind=feature.kind,
        bins=feature.bins,
        observed=feature.observed,
        reference=feature.reference,
        psi=feature.psi,
        ks=feature.ks,
        p_value=feature.p_value,
        drifted=feature.drifted,
        persistent=persistent,
        warned=feature.warned,
    )
