"""Sends held-out rows to the daemon and compares every answer with scikit-learn's. Counts, and measures latency; prints nothing."""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tidegate_client import Client, Prediction
from tidegate_client.errors import TidegateError

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Rows:
    """Held-out rows as the wire has them: numeric float32 [n, p] and categorical text [n, q]."""

    numeric: NDArray[np.float32]
    categorical: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.numeric)

    def tensors(self, start: int, stop: int) -> Mapping[str, NDArray[np.generic]]:
        """The packed inputs of the rows [start, stop)."""
        return {"numeric": self.numeric[start:stop], "categorical": self.categorical[start:stop]}


@dataclass(frozen=True)
class Reference:
    """What scikit-learn says of every held-out row, by version: probabilities [n, classes]."""

    probabilities: Mapping[int, NDArray[np.floating]]

    def agrees(self, prediction: Prediction, start: int, stop: int) -> bool:
        """Whether an answer equals the reference of the version that gave it."""
        expected = self.probabilities[int(prediction.version)][start:stop]
        got = prediction.outputs["probabilities"]
        return got.shape == expected.shape and bool(np.abs(got - expected).max() <= TOLERANCE)


@dataclass
class Tally:
    """What came back: requests and rows sent, answers by version, wrong and failed ones, seconds of each request."""

    requests: int = 0
    rows: int = 0
    versions: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def milliseconds(self, percentile: float) -> float:
        """A percentile of the latency of all requests."""
        return float(np.percentile(self.seconds, percentile)) * 1000


def send_all(client: Client, model: str, rows: Rows, reference: Reference, size: int, tally: Tally) -> Iterator[int]:
    """Send every row once, `size` to a request; yields the rows sent so far."""
    for start in range(0, len(rows), size):
        _send(client, model, rows, reference, (start, min(start + size, len(rows))), tally)
        yield min(start + size, len(rows))


class Background:
    """Keeps sending single rows from a thread, until the block ends; remembers when each version first answered."""

    def __init__(self, address: str, model: str, rows: Rows, reference: Reference) -> None:
        self.tally = Tally()
        self._address, self._model, self._rows, self._reference = address, model, rows, reference
        self._answers: list[tuple[float, int]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def first_answer_after(self, moment: float, version: int, timeout: float = 10.0) -> float:
        """Seconds from `moment` (time.perf_counter) to the first answer of `version` since then.

        Raises:
            TimeoutError: if none comes.
        """
        deadline = time.perf_counter() + timeout
        while time.perf_counter() < deadline:
            for when, number in self._answers:
                if when >= moment and number == version:
                    return when - moment
            time.sleep(0.001)
        raise TimeoutError(f"version {version} did not answer within {timeout:.0f} s")

    def _run(self) -> None:
        with Client(self._address) as client:
            for start in self._forever():
                version = _send(client, self._model, self._rows, self._reference, (start, start + 1), self.tally)
                self._answers.append((time.perf_counter(), version))

    def _forever(self) -> Iterable[int]:
        row = 0
        while not self._stopped.is_set():
            yield row % len(self._rows)
            row += 1


def _send(client: Client, model: str, rows: Rows, reference: Reference, span: tuple[int, int], tally: Tally) -> int:
    begin = time.perf_counter()
    tally.requests += 1
    tally.rows += span[1] - span[0]
    try:
        prediction = client.predict(model, rows.tensors(*span))
    except TidegateError as error:
        tally.failures.append(str(error))
        return 0
    tally.seconds.append(time.perf_counter() - begin)
    version = int(prediction.version)
    tally.versions[version] += 1
    tally.wrong += not reference.agrees(prediction, *span)
    return version
