"""The flights after the first quarter, month by month and in the order of time. Reads; sends nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import training
from training import dataset
from training.dataset import Rows
from training.spec import Spec

SPEC = Path(training.__file__).parent / "examples" / "flights" / "spec.toml"
YEAR = 2013
SERVED = range(4, 13)
"""April to December: what the spec leaves out of training"""


@dataclass(frozen=True)
class Month:
    """The rows of one month that are served, and what became of them, class names [n], which is known later."""

    name: str
    rows: Rows
    outcome: NDArray[np.object_]


def months(spec: Spec, most: int) -> Iterator[Month]:
    """Every served month; of more than `most` rows that many, spread evenly over the month."""
    for number in SERVED:
        since = datetime(YEAR, number, 1, tzinfo=UTC)
        until = datetime(YEAR + number // 12, number % 12 + 1, 1, tzinfo=UTC)
        data = spec.data.model_copy(update={"since": since, "until": until})
        rows, classes = dataset.read(spec.model_copy(update={"data": data}), SPEC.parent / data.path)
        spread = rows.take(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64))
        yield Month(f"{since:%Y-%m}", spread, np.asarray(classes, object)[spread.outcome])
