"""How the signed golden registry was made: `python -m tests.golden.make_registry FOLDER`.

For the next format; what is checked in stays as it is. `registry-1` is older: it was made before there were signatures and a guard.
"""

import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from registry import archive, checkpoint
from registry.bundle import Signature, TensorSpec
from registry.location import Keys, create_registry
from registry.profile import Profile, categorical_feature, numeric_feature
from registry.registry import Registry
from registry.route import Target
from registry.signing import generate
from tests.registry.helpers import model

if TYPE_CHECKING:
    from registry.blobs import Content


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
    """One model with every kind of commit, a checkpoint in the middle, and a smaller model."""
    name, ana, ben = "mortgage-denial", "ana@example.org", "ben"
    for number in (1, 2, 3, 4):
        files: dict[str, Content] = {
            "model.onnx": model(f"version {number}"),
            "signature.json": SIGNATURE.encode(),
            "profile.json": PROFILE.encode(),
        }
        registry.register(name, files, {"algorithm": "logistic", "auc": 0.7 + number / 100, "seed": number}, actor=ana, reason="trained")
    registry.promote(name, 1, to="production", actor=ana, reason="first version")
    registry.attach(name, 2, "load-test.json", b'{"p99_ms": 4.2}\n', actor="pipeline", reason="gate")
    registry.approve(name, 2, actor=ben, reason="reviewed: \u00fc\u4e2d\U0001f600")
    registry.sign_off(name, 2, "data-privacy", actor=ben, reason="no personal data")
    registry.override(name, 2, "fairness", actor=ben, reason="small sample, see ticket 7")
    registry.promote(name, 2, to="staging", actor=ana, reason="better AUC")
    registry.checkpoint(name)
    registry.route(name, Target(1, {1: 90, 2: 10}, (3,)), actor=ana, reason="canary")
    registry.promote(name, 2, to="production", actor=ben, reason="held")
    registry.rollback(name, actor=ben, reason="more denials than expected")
    registry.retire(name, 4, actor=ana, reason="trained on the wrong month")
    registry.note(name, 3, actor=ana, reason="shadowed for a week")
    registry.note(name, actor=ana, reason="the branch is closed until Monday")
    plain = Signature((TensorSpec("x", "FP32", ()),), (TensorSpec("y", "FP32", ()),))
    registry.register("a.b_c-1", {"model.onnx": model("another"), "signature.json": plain.encode()}, {}, actor=ana, reason="any signature")


def main(folder: Path) -> None:
    """Write the registry, the public key, a checkpoint to keep elsewhere and an exported version. The private key is thrown away."""
    with tempfile.TemporaryDirectory() as room:
        private = Path(room, "golden.key")
        (folder / "golden.pub").write_bytes(generate(private).read_bytes())
        registry = create_registry(str(folder / "registry-1-signed"), Clock(), Keys(private))
        fill(registry)
        (folder / "kept.json").write_bytes(checkpoint.encode(registry.state("mortgage-denial"), registry.sign))
        archive.export(registry, "mortgage-denial", 2, folder / "version-2.tidegate")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
