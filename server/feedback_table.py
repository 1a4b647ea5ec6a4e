"""Labels become a table for Parquet. The columns stand in docs/formats/feedback-log.md; which labels are kept is decided in `feedback`."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from server.arrow import numbers, strings
from server.feedback import KeptLabel

_MICROSECONDS = 1_000_000


def table(model: str, labels: Sequence[KeptLabel], received: float) -> pa.Table:
    """One row a label; `received` is when they came, in seconds since 1970."""
    count = len(labels)
    named = np.fromiter((label.class_name is not None for label in labels), bool, count)
    values = np.fromiter((label.value or 0.0 for label in labels), np.float64, count)
    return pa.table(
        {
            "prediction_id": strings([label.prediction_id.encode() for label in labels]),
            "row": numbers(np.fromiter((label.row for label in labels), np.int32, count)),
            "model": strings([model.encode()] * count),
            "class": strings([(label.class_name or "").encode() for label in labels], named),
            "value": numbers(values, ~named),
            "observed": _times(np.fromiter((label.observed for label in labels), np.float64, count)),
            "received": _times(np.full(count, received)),
        }
    )


def _times(seconds: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> pa.Array:
    return numbers(np.rint(seconds * _MICROSECONDS).astype(np.int64)).cast(pa.timestamp("us", tz="UTC"))
