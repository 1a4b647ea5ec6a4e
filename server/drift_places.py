"""Where the values of a feature stand in the tensors of a version: a pure function of its signature. Nothing is counted here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from registry.bundle import Signature, TensorSpec
from registry.profile import CLASS, SCORE, Feature, NumericFeature, Profile

Kind: TypeAlias = Literal["numbers", "texts", "classes"]


@dataclass(frozen=True)
class Place:
    """Column `column` of `tensor`, which has `width` columns: [n, width], or [n]. Where `kind` is `classes`, the column that is largest."""

    tensor: str
    column: int
    width: int
    kind: Kind


def input_places(signature: Signature) -> Mapping[str, Place]:
    """By name what a profile may call an input: a column of a packed tensor, or a tensor of one value per row."""
    places: dict[str, Place] = {}
    for spec in signature.inputs:
        names = spec.columns or ((spec.name,) if len(spec.shape) == 1 or spec.shape[1:] == (1,) else ())
        places |= {name: Place(spec.name, column, len(names), _kind(spec)) for column, name in enumerate(names)}
    return places


def prediction_places(signature: Signature) -> Mapping[str, Place]:
    """The same for what was predicted: class and, where one class is the positive one, its score. Empty without probabilities."""
    shape = (len(signature.classes),)
    table = next((spec for spec in signature.outputs if signature.classes and spec.shape[1:] == shape), None)
    if table is None:
        return {}
    places = {CLASS: Place(table.name, 0, *shape, "classes")}
    if signature.positive in signature.classes:
        places[SCORE] = Place(table.name, signature.classes.index(signature.positive), *shape, _kind(table))
    return places


def places(profile: Profile, signature: Signature) -> tuple[Place | None, ...]:
    """For each of `profile.features` where its values are; None where no tensor has them, or has them of another kind."""
    inputs, predictions = input_places(signature), prediction_places(signature)
    return (
        *(_fitting(feature, inputs.get(feature.name)) for feature in profile.inputs),
        *(_fitting(feature, predictions.get(feature.name)) for feature in profile.predictions),
    )


def counted_outputs(profile: Profile, signature: Signature) -> tuple[str, ...]:
    """The outputs that have features of the profile: every batch needs them, whatever its callers asked for."""
    tensors = {place.tensor for place in places(profile, signature) if place}
    return tuple(spec.name for spec in signature.outputs if spec.name in tensors)


def uncounted(profile: Profile, signature: Signature) -> frozenset[str]:
    """The features of which no tensor has values."""
    found = zip(profile.features, places(profile, signature), strict=True)
    return frozenset(feature.name for feature, place in found if place is None)


def _fitting(feature: Feature, place: Place | None) -> Place | None:
    """Text has no place between numbers."""
    return None if place and isinstance(feature, NumericFeature) and place.kind != "numbers" else place


def _kind(spec: TensorSpec) -> Kind:
    return "texts" if spec.datatype == "BYTES" else "numbers"
