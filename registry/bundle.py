"""The files of one version: their names, and the signature that says what the model takes and gives. No I/O here."""

from dataclasses import dataclass

from registry import canonical
from registry.canonical import Json, JsonObject
from registry.errors import FormatError

MODEL = "model.onnx"
PROFILE = "profile.json"
GOLDEN = "golden.npz"
EVALUATION = "evaluation.json"
FAIRNESS = "fairness.json"
TRAINING = "training.json"
DATA_CARD = "data_card.json"
MODEL_CARD = "model_card.json"
SIGNATURE = "signature.json"

REQUIRED = (MODEL, SIGNATURE)
"""A bundle can be served with these alone; what else it must have before it may be promoted is for the gates to say."""

NUMERIC = "numeric"
CATEGORICAL = "categorical"
"""The names of the two packed inputs: FP32 [-1, p] and BYTES [-1, q]."""

SIGNATURE_FORMAT = "tidegate.signature/1"
DATATYPES = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES")


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: Open Inference Protocol datatype, shape (-1: any size) and, for a packed tensor, its column names in order."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives.

    `classes` are the names of the classes in the order of the probabilities; empty if the model is no classifier. `positive` is the one whose probability is
    the score.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    classes: tuple[str, ...] = ()
    positive: str = ""

    def encode(self) -> bytes:
        """Canonical bytes of `signature.json`; `parse_signature(signature.encode()) == signature`."""
        return canonical.encode(
            {
                "format": SIGNATURE_FORMAT,
                "inputs": [_spec_json(spec) for spec in self.inputs],
                "outputs": [_spec_json(spec) for spec in self.outputs],
                "classes": list(self.classes),
                "positive": self.positive,
            }
        )


def parse_signature(raw: bytes) -> Signature:
    """Read `signature.json`.

    Raises:
        FormatError: if it is not a signature of a format this release knows.
    """
    value = canonical.expect_format(canonical.decode(raw, SIGNATURE), SIGNATURE_FORMAT, SIGNATURE)
    try:
        return Signature(
            inputs=_specs(value, "inputs"),
            outputs=_specs(value, "outputs"),
            classes=_texts(value.get("classes", [])),
            positive=str(value.get("positive", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{SIGNATURE} has a missing or wrong field: {error}") from error


def _spec_json(spec: TensorSpec) -> JsonObject:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape), "columns": list(spec.columns)}


def _specs(value: JsonObject, key: str) -> tuple[TensorSpec, ...]:
    items = value[key]
    if not isinstance(items, list) or not items:
        raise ValueError(f"{key} is not a list of tensors")
    return tuple(_spec(item) for item in items)


def _spec(item: JsonObject) -> TensorSpec:
    datatype, shape = str(item["datatype"]), item["shape"]
    if datatype not in DATATYPES:
        raise ValueError(f"datatype {datatype!r} is not one of {', '.join(DATATYPES)}")
    if not isinstance(shape, list) or not all(isinstance(size, int) for size in shape):
        raise ValueError("shape is not a list of integers")
    return TensorSpec(str(item["name"]), datatype, tuple(shape), _texts(item.get("columns", [])))


def _texts(value: Json) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError("expected a list of text")
    return tuple(map(str, value))
