"""A seeded search for the parameters of one candidate: optuna's TPE on cross-validated AUC. The held-out rows are never seen here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold, cross_val_score

from training import features
from training.dataset import Rows
from training.spec import ALGORITHMS, Candidate

FOLDS = 3


@dataclass(frozen=True)
class Trial:
    """One attempt: its parameters and the mean AUC over the folds."""

    number: int
    parameters: Mapping[str, float]
    score: float


@dataclass(frozen=True)
class Found:
    """All attempts in order, and the best (of equals the first)."""

    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The attempt with the highest score."""
        return max(self.trials, key=lambda trial: trial.score)


def search(candidate: Candidate, rows: Rows, labels: NDArray[np.object_], *, seed: int, report: Callable[[int], None]) -> Found:
    """Try the trials of `candidate` on `rows` with class names `labels` [n]; `report` hears how many are done after each."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # an interrupted trial would be a warning with a traceback
    matrix, widths = features.pack(rows), (rows.numeric.shape[1], rows.categorical.shape[1])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)

    def score(trial: optuna.Trial) -> float:
        pipeline = features.build(candidate.algorithm, widths, _suggest(candidate, trial), seed)
        return float(cross_val_score(pipeline, matrix, labels, scoring="roc_auc", cv=folds, error_score="raise").mean())

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(score, n_trials=candidate.trials, callbacks=[lambda _, trial: report(trial.number + 1)])
    return Found(tuple(Trial(trial.number, dict(trial.params), float(trial.value or 0)) for trial in study.trials))


def _suggest(candidate: Candidate, trial: optuna.Trial) -> dict[str, float]:
    known = ALGORITHMS[candidate.algorithm]
    suggested: dict[str, float] = {}
    for name, limits in candidate.search.items():
        if known[name].integer:
            suggested[name] = trial.suggest_int(name, int(limits.low), int(limits.high), log=limits.log)
        else:
            suggested[name] = trial.suggest_float(name, float(limits.low), float(limits.high), log=limits.log)
    return suggested
