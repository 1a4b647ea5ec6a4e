"""What is asked and answered about drift: counts, what they amount to, and who counted."""

from pydantic import BaseModel, ConfigDict, Field

from control_plane.drift.fleet import FleetDrift


class DriftQuery(BaseModel):
    """Which counts are asked for; the defaults are those of production."""

    version: str = Field("", description="a number, staging or production; production if empty")
    window: str = Field("", description="the last completed tumbling window, such as 1h or 10000rows; all since it was loaded if empty")
    arm: str = Field("", description="stable, canary or shadow; production traffic, which is stable and canary, if empty")


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
    """Of these rows alone"""
    persistent: bool = False
    """Has lasted over completed windows at any daemon, each of which judges its own rows"""
    warned: bool


class DaemonView(BaseModel):
    """What one daemon gave."""

    model_config = ConfigDict(from_attributes=True)

    daemon: str
    """Its address, as the settings name it"""
    rows: int | None
    """Null if it did not answer"""
    persistent: tuple[str, ...]
    """Names of the features whose drift has lasted in its own traffic"""
    error: str | None
    """Why it did not"""


class DriftView(BaseModel):
    """The drift of one version, as all daemons that answered counted it."""

    model_config = ConfigDict(from_attributes=True)

    model: str
    version: int
    window: str
    """Empty: everything since the daemons first loaded the version"""
    arm: str
    """Empty: production traffic"""
    rows: int
    started: float | None
    """From when any daemon counted, in seconds since 1970; null while none has completed such a window"""
    ended: float | None
    """Until when"""
    partial: bool
    """A daemon did not answer: its rows are missing"""
    daemons: tuple[DaemonView, ...]
    features: tuple[FeatureDriftView, ...]
    drifted: tuple[str, ...]
    """Names of the features that drifted"""
    persistent: tuple[str, ...]
    """Names of the features whose drift has lasted at any daemon"""
    warned: tuple[str, ...]
    """Names of the features worth a look, drifted or not"""
    uncounted: tuple[str, ...]
    """Names of the features of the profile that the daemons have no column for"""
    windows: tuple[str, ...]
    """The windows that may be asked for"""


def drift_view(drift: FleetDrift) -> DriftView:
    """A drift, all of it."""
    view, lasting = DriftView.model_validate(drift), set(drift.persistent)
    features = tuple(feature.model_copy(update={"persistent": feature.name in lasting}) for feature in view.features)
    return view.model_copy(update={"features": features})
