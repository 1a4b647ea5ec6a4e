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


class DriftView(BaseModel):
    """The drift of one version, as one daemon counted it since it loaded the version."""

    model_config = ConfigDict(from_attributes=True)

    model: str
    version: str
    rows: int
    features: tuple[FeatureDriftView, ...]
    drifted: tuple[str, ...]
    """Names of the features that drifted"""


def drift_view(drift: Drift) -> DriftView:
    """A drift, all of it."""
    return DriftView.model_validate(drift)
