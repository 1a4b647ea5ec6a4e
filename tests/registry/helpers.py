"""What several tests of the registry share: a clock to hand in, a small bundle, every file of a folder. No tests here."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from registry.bundle import Signature, TensorSpec
from registry.registry import Registry, create_registry

MODEL = "mortgage-denial"
ACTOR = "ana"
SIGNATURE = Signature(
    inputs=(TensorSpec("numeric", "FP32", (-1, 2), ("income", "amount")),),
    outputs=(TensorSpec("probabilities", "FP32", (-1, 2)),),
    classes=("no", "yes"),
    positive="yes",
)


@dataclass
class Clock:
    """A clock that goes on by one second at each look, unless it is set."""

    now: datetime = field(default_factory=lambda: datetime(2026, 1, 1, tzinfo=UTC))

    def __call__(self) -> datetime:
        """The time, one second after the last."""
        self.now += timedelta(seconds=1)
        return self.now


def bundle(content: str = "a model") -> dict[str, bytes | Path]:
    """The smallest bundle that may be registered."""
    return {"model.onnx": content.encode(), "signature.json": SIGNATURE.encode()}


def new_registry(root: Path) -> Registry:
    """A registry at `root` with a clock of its own."""
    return create_registry(str(root), Clock())


def register(registry: Registry, versions: int = 1, model: str = MODEL) -> None:
    """Register that many versions."""
    for number in range(versions):
        registry.register(model, bundle(f"model {number}"), {"auc": 0.5 + number / 10}, actor=ACTOR, reason=f"try {number}")


def files(root: Path) -> dict[str, bytes]:
    """Every file below `root`, by its path."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
