"""A model whose drift the server of `oip_server` counts, in the bins of its profile. No test lives here."""

from registry.profile import NumericFeature, Profile
from registry.registry import Registry
from tests.control_plane.conftest import SIGNATURE
from tests.registry.helpers import model as onnx

PROFILE = Profile(8, (NumericFeature("income", (1.0,), (4, 4, 0)),), ())


def register(registry: Registry, model: str, profile: Profile = PROFILE) -> str:
    """Register version 1 of a model with a profile; returns the model."""
    bundle = {"model.onnx": onnx(model), "signature.json": SIGNATURE.encode(), "profile.json": profile.encode()}
    registry.register(model, bundle, {}, actor="ana", reason="try")
    return model
