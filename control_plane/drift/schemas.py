"""What is answered about drift: counts, what they amount to, and who counted."""

from pydantic import BaseModel, ConfigDict

from control_plane.drift.fleet import FleetDrift


class FeatureDriftView(BaseModel):
    """Counts of one feature in the bins of its profile, and what they amount to."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    kind: str
    """`numeric` or `categorical`"""
    bins: tuple[str, ...]
    observed: tuple[int, ...]
    reference: tuple[int, ...]
    rows: int
    psi: float
    """nats"""
    ks: float | None
    """0 to 1; null where the bins have no order"""
    p_value: float
    drifted: bool
    """Of these rows alone: whether it lasts is for whoever keeps windows"""
    warned: bool


class DaemonView(BaseModel):
    """What one daemon gave."""

    model_config = ConfigDict(from_attributes=True)

    daemon: str
    """HOST:PORT, as the settings name it"""
    rows: int | None
    """Null if it did not answer"""
    error: str | None
    """Why it did not"""


class DriftView(BaseModel):
    """The drift of one version, as all daemons that answered counted it since they loaded the version."""

    model_config = ConfigDict(from_attributes=True)

    model: str
    version: int
    rows: int
    partial: bool
    """A daemon did not answer: its rows are missing"""
    daemons: tuple[DaemonView, ...]
    features: tuple[FeatureDriftView, ...]
    drifted: tuple[str, ...]
    """Names of the features that drifted"""
    warned: tuple[str, ...]
    """Names of the features worth a look, drifted or not"""
    uncounted: tuple[str, ...]
    """Names of the features of the profile that the daemons have no column for"""


def drift_view(drift: FleetDrift) -> DriftView:
    """A drift, all of it."""
    return DriftView.model_validate(drift)
