"""The Prometheus text format, for families of so many samples that prometheus_client takes too long to write them.

What stands in the samples is not known here; small families are prometheus_client's to write.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Family:
    """One metric with its samples, each a line as `prefix` begins it. `name` is that of the samples: a counter's ends in `_total`."""

    name: str
    kind: Literal["counter", "gauge"]
    documentation: str
    samples: str

    def text(self, *, openmetrics: bool) -> str:
        """The family in the text format of Prometheus, or in that of OpenMetrics, which names a counter without its `_total`."""
        name = self.name.removesuffix("_total") if openmetrics and self.kind == "counter" else self.name
        return f"# HELP {name} {self.documentation}\n# TYPE {name} {self.kind}\n{self.samples}"


class Exposition(Protocol):
    """Whatever has families."""

    def families(self) -> Iterable[Family]:
        """All families as they are now."""
        ...


def prefix(name: str, **labels: str) -> str:
    """What a sample's line begins with: all but the value."""
    pairs = ",".join([f'{label}="{_escaped(value)}"' for label, value in labels.items()])
    return f"{name}{{{pairs}}} "


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
