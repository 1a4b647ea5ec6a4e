"""Sends the rows of a month and takes what the daemon counted of them. Judges nothing, prints nothing."""

import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from clients.demo.story import StoryError
from registry.profile import Counts
from tidegate_client import Client, Drift
from training.dataset import Inputs

ROWS_PER_REQUEST = 64
COUNTED_SECONDS = 20.0


def send(client: Client, model: str, positive: str, rows: Inputs) -> Iterator[NDArray[np.floating]]:
    """Send `rows` in order, 64 to a request; yields P(positive) of each request's rows."""
    for start in range(0, len(rows), ROWS_PER_REQUEST):
        span = slice(start, start + ROWS_PER_REQUEST)
        answer = client.predict(model, {"numeric": rows.numeric[span], "categorical": rows.categorical[span]})
        yield answer["probabilities"][:, answer.classes.index(positive)]


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
