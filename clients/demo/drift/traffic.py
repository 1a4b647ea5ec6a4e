"""Sends the rows of a month and takes what the daemon counted of them; its labels are for later. Judges nothing, prints nothing."""

import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from clients.demo.story import StoryError
from registry.profile import Counts
from tidegate_client import Client, Drift, Label
from training.dataset import Inputs

ROWS_PER_REQUEST = 64
LABELS_PER_CALL = 5000
COUNTED_SECONDS = 20.0


def send(client: Client, model: str, rows: Inputs) -> Iterator[str]:
    """Send `rows` in order, 64 to a request; yields the prediction id of each request."""
    for start in range(0, len(rows), ROWS_PER_REQUEST):
        span = slice(start, start + ROWS_PER_REQUEST)
        yield client.predict(model, {"numeric": rows.numeric[span], "categorical": rows.categorical[span]}).id


def labels(ids: Sequence[str], outcome: NDArray[np.object_]) -> Sequence[Label]:
    """What became true of the rows sent: class names `outcome` [n], in the order in which `send` sent them."""
    return [Label(ids[place // ROWS_PER_REQUEST], str(name), place % ROWS_PER_REQUEST) for place, name in enumerate(outcome)]


def tell(client: Client, model: str, known: Sequence[Label]) -> None:
    """Send labels.

    Raises:
        StoryError: if one is refused.
    """
    for start in range(0, len(known), LABELS_PER_CALL):
        receipt = client.feedback(model, known[start : start + LABELS_PER_CALL])
        if receipt.refused:
            raise StoryError(f"{receipt.refused} labels of {model} were refused; the first: {receipt.refusals[0].reason}")


def counted(client: Client, model: str, rows: int) -> Drift:
    """What the daemon counted once it counted `rows` rows: it counts off the path of the requests, a moment later.

    Raises:
        StoryError: if it does not get there, or counted more.
    """
    deadline = time.monotonic() + COUNTED_SECONDS
    while (drift := client.drift(model)).rows < rows and time.monotonic() < deadline:
        time.sleep(0.02)
    if drift.rows != rows:
        raise StoryError(f"the daemon was sent {rows} rows of {model} and counted {drift.rows}")
    return drift


def since(now: Drift, before: Drift | None) -> Sequence[Counts]:
    """The counts of each feature between two reports, int64 [bins]: counts add, so those of a month are a difference."""
    counts = [np.asarray(feature.observed, np.int64) for feature in now.features]
    if before is None:
        return counts
    return [count - np.asarray(feature.observed, np.int64) for count, feature in zip(counts, before.features, strict=True)]
