"""What is answered about drift: the daemon's counts as JSON."""

from pydantic import BaseModel, ConfigDict

from tidegate_client import Drift


class FeatureDriftView(BaseModel):
    """Counts of one feature in the bins of its profile, and what they amount to."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    kind: str
    """`numeric`, `categorical` or `prediction`"""
    bins: tuple[str, ...]
    observed: tuple[int, ...]
    reference: tuple[int, ...]
    psi: float
    """nats"""
    ks: float | None
    """0 to 1; null where the bins have no order"""
    p_value: float
    drifted: bool
    """In these rows alone"""
    persistent: bool
    """In as many completed windows in a row as the model's limits ask for"""
    warned: bool


class DriftView(BaseModel):
    """The drift of one version, as one daemon counted it."""

    model_config = ConfigDict(from_attributes=True)

    model: str
    version: str
    rows: int
    features: tuple[FeatureDriftView, ...]
    drifted: tuple[str, ...]
    """Names of the features that drifted"""
    persistent: tuple[str, ...]
    """Names of the features whose drift has lasted"""
    window: str
    """Empty: everything since the daemon first loaded the version"""
    arm: str
    """Empty: production traffic"""
    started: float
    """Seconds since 1970"""
    ended: float
    """Seconds since 1970; 0 while no such window has been completed"""
    uncounted: tuple[str, ...]
    """Names of the features that the daemon cannot count"""


def drift_view(drift: Drift) -> DriftView:
    """A drift, all of it."""
    return DriftView.model_validate(drift)
