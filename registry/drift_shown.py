"""Which features of a profile are shown as metrics: the most important ones. Daemons and control planes have to choose alike.

All features are counted and judged, shown or not; nothing here knows of metrics.
"""

from registry.profile import Profile


def chosen(profile: Profile, most: int) -> list[int]:
    """The places in `Profile.features` of the `most` important inputs, of those alike the first, and of all predictions; ascending."""
    importance = profile.importance or (0.0,) * len(profile.inputs)
    ranked = sorted(range(len(profile.inputs)), key=lambda place: -importance[place])
    return sorted(ranked[:most]) + list(range(len(profile.inputs), len(profile.features)))
