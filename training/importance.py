"""How much each input matters to a model: what the AUC of held-out rows loses when the column is shuffled. Pure but for the seed.

Breiman 2001, "Random Forests", section 10. Two inputs that say the same share what they are worth: it orders features, it explains nothing.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from training.dataset import Inputs, Rows
from training.evaluation import auc

Matrix = TypeVar("Matrix", bound=NDArray[Any])

MAX_ROWS = 2000
REPEATS = 3


def importance(score: Callable[[Inputs], NDArray[np.floating]], rows: Rows, seed: int) -> tuple[float, ...]:
    """The mean drop of AUC over three shuffles, 0 or more, for each numeric, then each categorical column of `rows`.

    `score` gives P(positive) [n]. Of more than 2,000 rows so many are drawn, as far as possible half of either class, so that the cost
    of a column does not grow with the data.
    """
    rng = np.random.default_rng(seed)
    drawn = rows.take(_drawn(rows.outcome, rng))
    best = auc(drawn.outcome, score(drawn))
    drops = [[best - auc(drawn.outcome, score(inputs)) for inputs in shuffles] for shuffles in _shuffled(drawn, rng)]
    return tuple(max(0.0, float(np.mean(drop))) for drop in drops)


def _drawn(outcome: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    order = rng.permutation(len(outcome))
    negative, positive = order[outcome[order] == 0], order[outcome[order] == 1]
    rarer = min(len(negative), len(positive), MAX_ROWS // 2)
    return np.sort(np.concatenate([part[: max(MAX_ROWS // 2, MAX_ROWS - rarer)] for part in (negative, positive)]))


def _shuffled(rows: Rows, rng: np.random.Generator) -> Iterator[list[Inputs]]:
    for place in range(rows.numeric.shape[1]):
        yield [Inputs(_with_shuffled(rows.numeric, place, rng), rows.categorical) for _ in range(REPEATS)]
    for place in range(rows.categorical.shape[1]):
        yield [Inputs(rows.numeric, _with_shuffled(rows.categorical, place, rng)) for _ in range(REPEATS)]


def _with_shuffled(matrix: Matrix, place: int, rng: np.random.Generator) -> Matrix:
    changed = matrix.copy()
    changed[:, place] = rng.permutation(matrix[:, place])
    return changed
