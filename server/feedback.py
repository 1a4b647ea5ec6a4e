"""Which labels are kept: the rule that checks a batch of them against the versions that are loaded. Pure: no files, no clock.

Whether a label belongs to a prediction is not asked here: the daemon does not remember predictions. That is decided where labels and
predictions are joined.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from server.routing import ServedModel
from tidegate_protos import monitoring_pb2 as monitoring

MAX_LABELS = 10_000
"""Of one call."""
MAX_ID_BYTES = 1024
AHEAD_SECONDS = 86_400.0
"""How far a label may be ahead of this daemon's clock. One that is further has milliseconds for seconds, and would hold for ever."""
_SHOWN = 10


class KeptLabel(NamedTuple):
    """What turned out to be true of a row: the name of a class or a number, the other being None; `observed` in seconds since 1970."""

    prediction_id: str
    row: int
    class_name: str | None
    value: float | None
    observed: float


@dataclass(frozen=True)
class Checked:
    """A batch that was looked at: each label to keep once, how many stood there twice, and why others are refused, by their place."""

    kept: tuple[KeptLabel, ...]
    duplicate: int
    refused: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class LabelRule:
    """What labels of a model may be: `classes` are those of its loaded versions; `numeric` if one of those has none."""

    classes: tuple[str, ...]
    numeric: bool

    @classmethod
    def of(cls, served: ServedModel) -> "LabelRule":
        """The rule of a model with at least one loaded version."""
        signatures = [version.signature for version in served.versions.values()]
        names = dict.fromkeys(name for signature in signatures for name in signature.classes)
        return cls(tuple(names), any(not signature.classes for signature in signatures))

    @property
    def expected(self) -> str:
        """What it lets through, in words."""
        names = ", ".join(map(repr, self.classes[:_SHOWN])) + (" ..." if len(self.classes) > _SHOWN else "")
        choices = [f"one of the classes {names} as text"] if self.classes else []
        return " or ".join([*choices, "a finite number"] if self.numeric else choices)


def check(labels: Sequence[monitoring.Label], rule: LabelRule, now: float) -> Checked:
    """Part a batch into what is kept and what is refused; `now`, in seconds since 1970, stands for an `observed` of 0."""
    kept: dict[KeptLabel, None] = {}
    refused = []
    known = frozenset(rule.classes)
    for index, label in enumerate(labels):
        reason = next(_faults(label, rule, known, now), None)
        if reason is None:
            kept[_kept(label, now)] = None
        else:
            refused.append((index, reason))
    return Checked(tuple(kept), len(labels) - len(kept) - len(refused), tuple(refused))


def _kept(label: monitoring.Label, now: float) -> KeptLabel:
    is_class = label.WhichOneof("label") == "class_name"
    name, value = (label.class_name, None) if is_class else (None, label.value)
    return KeptLabel(label.prediction_id, label.row, name, value, label.observed or now)


def _faults(label: monitoring.Label, rule: LabelRule, known: frozenset[str], now: float) -> Iterator[str]:
    if not label.prediction_id:
        yield "prediction_id is empty"
    elif len(label.prediction_id.encode()) > MAX_ID_BYTES:
        yield f"prediction_id has more than {MAX_ID_BYTES} bytes"
    if label.row < 0:
        yield f"row is {label.row}; rows count from 0"
    match label.WhichOneof("label"):
        case None:
            yield f"there is no label; expected {rule.expected}"
        case "class_name" if label.class_name not in known:
            yield f"label is {label.class_name[:80]!r}; expected {rule.expected}"
        case "value" if not (rule.numeric and math.isfinite(label.value)):
            yield f"label is the number {label.value:g}; expected {rule.expected}"
    if not 0 <= label.observed < math.inf:
        yield f"observed is {label.observed:g}; expected seconds since 1970, or 0 for now"
    elif label.observed > now + AHEAD_SECONDS:
        yield f"observed is {label.observed:.0f}, more than a day ahead of the daemon's clock ({now:.0f}); it is in seconds since 1970"
