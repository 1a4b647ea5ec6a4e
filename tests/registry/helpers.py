"""What several tests of the registry share: a clock to hand in, a small bundle, every file of a folder. No tests here."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from registry.bundle import Signature, TensorSpec
from registry.location import create_registry, shared_guard
from registry.registry import Registry
from registry.store import Sweepable

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


def model(content: str) -> bytes:
    """A real ONNX file, `y = Identity(x)`, as an encoder would write it by hand; `content` is its doc_string and makes it unlike others."""
    node = field_of(1, b"x") + field_of(2, b"y") + field_of(4, b"Identity")
    kind = field_of(1, b"\x08\x01" + field_of(2, b""))  # a tensor: FLOAT, no dimensions
    ends = field_of(11, field_of(1, b"x") + field_of(2, kind)) + field_of(12, field_of(1, b"y") + field_of(2, kind))
    graph = field_of(1, node) + field_of(2, b"g") + ends
    return b"\x08\x08" + field_of(6, content.encode()) + field_of(7, graph) + field_of(8, b"\x10\x11")


def field_of(number: int, content: bytes) -> bytes:
    """A protobuf field that holds bytes or a message."""
    size, length = len(content), b""
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def bundle(content: str = "a model") -> dict[str, bytes | Path]:
    """The smallest bundle that may be registered."""
    return {"model.onnx": model(content), "signature.json": SIGNATURE.encode()}


def new_registry(root: Path) -> Registry:
    """A registry at `root` with a clock of its own."""
    return create_registry(str(root), Clock())


def on(store: Sweepable) -> Registry:
    """A registry on this very store, with a clock of its own."""
    return Registry(store, Clock(), shared_guard())


def register(registry: Registry, versions: int = 1, model: str = MODEL) -> None:
    """Register that many versions."""
    for number in range(versions):
        registry.register(model, bundle(f"model {number}"), {"auc": 0.5 + number / 10}, actor=ACTOR, reason=f"try {number}")


LAST = 6
"""The number of the newest commit of `filled`."""


def filled(root: Path) -> Path:
    """A registry with three versions, three routes and a second model; returns its place."""
    registry = new_registry(root)
    register(registry, 3)
    for version in (1, 2, 3):
        registry.promote(MODEL, version, to="production", actor=ACTOR, reason=f"route {version}")
    register(registry, 1, "other")
    return root


def files(root: Path) -> dict[str, bytes]:
    """Every file below `root`, by its path."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
