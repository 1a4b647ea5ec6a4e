"""How the golden registry was made: `python -m tests.golden.make_registry FOLDER`.

For the next format; what is checked in stays as it is.
"""

import sys
from datetime import UTC, datetime, timedelta

from registry.bundle import Signature, TensorSpec
from registry.profile import Profile, categorical_feature, numeric_feature
from registry.registry import Registry, create_registry


class Clock:
    """One minute passes at each look."""

    now = datetime(2026, 1, 31, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        """The time."""
        self.now += timedelta(minutes=1)
        return self.now


SIGNATURE = Signature(
    inputs=(TensorSpec("numeric", "FP32", (-1, 2), ("income", "loan_amount")), TensorSpec("categorical", "BYTES", (-1, 1), ("purpose",))),
    outputs=(TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 2))),
    classes=("approved", "denied"),
    positive="denied",
)
PROFILE = Profile(
    rows=40,
    inputs=(
        numeric_feature("income", [float(number) for number in range(40)]),
        numeric_feature("loan_amount", [0.1 * number for number in range(38)] + [float("nan")] * 2),
        categorical_feature("purpose", ["buy"] * 20 + ["refinance"] * 15 + ["caf\u00e9"] * 3 + [""] * 2),
    ),
    predictions=(
        numeric_feature("score", [number / 40 for number in range(40)]),
        categorical_feature("class", ["approved"] * 33 + ["denied"] * 7),
    ),
)


def fill(registry: Registry) -> None:
    """One model with every kind of commit, and a smaller one."""
    model, actor = "mortgage-denial", "ana@example.org"
    for number in (1, 2, 3):
        files = {
            "model.onnx": f"not a model: the bytes of version {number}\n".encode(),
            "signature.json": SIGNATURE.encode(),
            "profile.json": PROFILE.encode(),
        }
        registry.register(model, files, {"algorithm": "logistic", "auc": 0.7 + number / 100, "seed": number}, actor=actor, reason="trained")
    registry.promote(model, 1, to="production", actor=actor, reason="first version")
    registry.promote(model, 2, to="staging", actor=actor, reason="better AUC")
    registry.promote(model, 2, to="production", actor="ben", reason="reviewed: \u00fc\u4e2d\U0001f600")
    registry.rollback(model, actor="ben", reason="more denials than expected")
    registry.promote(model, 3, to="staging", actor=actor, reason="next try")
    files = {
        "model.onnx": b"another\n",
        "signature.json": Signature((TensorSpec("x", "FP64", (-1, 4)),), (TensorSpec("y", "FP64", (-1,)),)).encode(),
    }
    registry.register("a.b_c-1", files, {}, actor=actor, reason="any ONNX signature")


if __name__ == "__main__":
    fill(create_registry(sys.argv[1], Clock()))
