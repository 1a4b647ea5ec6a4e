"""The files of one version: their names, and the signature that says what the model takes and gives. No I/O here."""

from dataclasses import dataclass, field

from registry import canonical
from registry.canonical import JsonObject
from registry.fields import items, reading, text, unknown

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

PARSED = (SIGNATURE, PROFILE)
"""The files the registry itself understands, and does not let in if they are not what they should be."""

SIGNATURE_FORMAT = "tidegate.signature/1"
_FIELDS = ("format", "inputs", "outputs", "classes", "positive")
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

    `classes` are the names of the classes in the order of the probabilities; empty if the model is no classifier. `positive` is the one
    whose probability is the score.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    classes: tuple[str, ...] = ()
    positive: str = ""
    unknown: JsonObject = field(default_factory=dict, hash=False)
    """fields a later release added"""

    def encode(self) -> bytes:
        """Canonical bytes of `signature.json`; `parse_signature(signature.encode()) == signature`."""
        return canonical.encode(
            {
                **self.unknown,
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
    with reading(SIGNATURE):
        return Signature(
            inputs=_specs(value, "inputs"),
            outputs=_specs(value, "outputs"),
            classes=items({"classes": [], **value}, "classes", str),
            positive=text({"positive": "", **value}, "positive"),
            unknown=unknown(value, _FIELDS),
        )


def check(name: str, raw: bytes) -> None:
    """Refuse a file of `PARSED` that is not of its format.

    Raises:
        FormatError: if it is not.
    """
    if name == SIGNATURE:
        parse_signature(raw)
    elif name == PROFILE:
        from registry import profile  # noqa: PLC0415 -- brings numpy, which whoever only reads logs does not need

        profile.parse(raw)


def _spec_json(spec: TensorSpec) -> JsonObject:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape), "columns": list(spec.columns)}


def _specs(value: JsonObject, key: str) -> tuple[TensorSpec, ...]:
    specs = tuple(_spec(item) for item in items(value, key, dict))
    if not specs or len({spec.name for spec in specs}) != len(specs):
        raise ValueError(f"{key} must name at least one tensor, and none twice")
    return specs


def _spec(value: JsonObject) -> TensorSpec:
    datatype = text(value, "datatype")
    if datatype not in DATATYPES:
        raise ValueError(f"datatype {datatype!r} is not one of {', '.join(DATATYPES)}")
    return TensorSpec(text(value, "name"), datatype, items(value, "shape", int), items({"columns": [], **value}, "columns", str))
