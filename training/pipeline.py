"""Training from end to end: one spec file, one registered version per candidate. Each step is a module of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from registry.bundle import EVALUATION, FAIRNESS, Signature
from registry.canonical import JsonObject
from registry.location import NO_KEYS, Keys, create_registry
from registry.profile import Profile
from training import bundle_builder, charts, dataset, drift_profile, features, onnx_export, provenance, search
from training import spec as spec_file
from training.cards import Facts
from training.comet_tracker import open_tracker
from training.dataset import Dataset, Inputs, Rows
from training.evaluation import Evaluation, evaluate
from training.fairness import Fairness, assess
from training.importance import importance
from training.onnx_export import OnnxModel
from training.progress import Progress
from training.search import Found
from training.spec import Candidate, Spec

_STEPS_AFTER_SEARCH = 4  # fit and export, judge, build the bundle, register


@dataclass(frozen=True)
class TrainedVersion:
    """A version as it was registered, and what it was made from."""

    model: str
    version: int
    algorithm: str
    estimator: Pipeline
    holdout: Rows
    evaluation: Evaluation
    fairness: Fairness | None
    signature: Signature

    def reference(self, rows: Rows) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
        """What scikit-learn answers for `rows`: class names, object of str [n], and probabilities, float64 [n, classes]."""
        matrix = features.pack(rows)
        return np.asarray(self.estimator.predict(matrix), object), np.asarray(self.estimator.predict_proba(matrix), np.float64)


@dataclass
class _Steps:
    """Where one candidate stands, for whoever watches."""

    what: str
    total: int
    progress: Progress
    done: int = field(default=0)

    def advance(self, _: object = None) -> None:
        self.done += 1
        self.progress(self.what, self.done, self.total)


@dataclass(frozen=True)
class _Fitted:
    found: Found
    estimator: Pipeline
    model: OnnxModel
    signature: Signature
    parity: float

    def score(self, rows: Inputs) -> NDArray[np.float32]:
        """P(positive) [n] as ONNX Runtime gives it: what will be served, hence what is judged."""
        return self.model.run(rows)[1][:, self.signature.classes.index(self.signature.positive)]


def train(
    spec_path: Path,
    registry_url: str,
    *,
    trials: int | None = None,
    seed: int | None = None,
    actor: str,
    tracker_dir: Path,
    progress: Progress,
    keys: Keys = NO_KEYS,
) -> list[TrainedVersion]:
    """Train every candidate of the spec in order and register each as the next version of the model.

    `trials` and `seed` replace those of the spec. A candidate is registered in one step after all else succeeded: an error leaves
    the candidates before it registered and nothing of it. Without COMET_API_KEY the experiments go to `tracker_dir`.

    Raises:
        TrainingError: see `training.errors`; spec and data are checked before anything is written.
        RegistryError: if the place is not a registry, or refuses.
    """
    spec = spec_file.load(spec_path).replaced(trials=trials, seed=seed)
    data = dataset.load(spec, spec_path.parent / spec.data.path)
    registry = create_registry(registry_url, keys=keys)
    trained = []
    for candidate in spec.candidates:
        steps = _Steps(candidate.algorithm, candidate.trials + _STEPS_AFTER_SEARCH, progress)
        progress(steps.what, 0, steps.total)
        fitted = _fit(spec, candidate, data, steps)
        evaluation, fairness = _judge(spec, data, fitted)
        steps.advance()
        facts = Facts(spec, candidate, data, fitted.found.best.parameters, evaluation, fairness, fitted.parity, provenance.packages())
        files = _bundle(facts, fitted, tracker_dir)
        steps.advance()
        reason = f"trained: {candidate.algorithm}, {candidate.trials} trials, seed {spec.evaluation.seed}"
        version = registry.register(spec.model.name, files, _manifest_facts(facts), actor=actor, reason=reason)
        steps.advance()
        trained.append(
            TrainedVersion(
                spec.model.name, version, candidate.algorithm, fitted.estimator, data.holdout, evaluation, fairness, fitted.signature
            )
        )
    return trained


def _fit(spec: Spec, candidate: Candidate, data: Dataset, steps: _Steps) -> _Fitted:
    rows, seed = data.training, spec.evaluation.seed
    widths, labels = (len(spec.data.numeric), len(spec.data.categorical)), data.labels(rows)
    found = search.search(candidate, rows, labels, seed=seed, report=steps.advance)
    estimator = features.build(candidate.algorithm, widths, found.best.parameters, seed).fit(features.pack(rows), labels)
    model = onnx_export.export(estimator, widths, spec.model.name)
    parity = onnx_export.check_parity(estimator, model, data.holdout)
    steps.advance()
    return _Fitted(found, estimator, model, onnx_export.signature(estimator, spec.data), parity)


def _judge(spec: Spec, data: Dataset, fitted: _Fitted) -> tuple[Evaluation, Fairness | None]:
    rows, rule, threshold = data.holdout, spec.fairness, spec.evaluation.threshold
    score = fitted.score(rows)
    favourable = rule.favourable if rule else data.classes[0]
    decided = (score >= threshold) == (favourable == data.classes[1])
    evaluation = evaluate(
        rows.outcome,
        score,
        threshold=threshold,
        resamples=spec.evaluation.bootstraps,
        seed=spec.evaluation.seed,
        approved=decided,
        groups=rows.protected,
    )
    if rule is None:
        return evaluation, None
    return evaluation, assess(rows.protected, data.labels(rows) == favourable, decided, **rule.model_dump(), threshold=threshold)


def _bundle(facts: Facts, fitted: _Fitted, tracker_dir: Path) -> Mapping[str, bytes]:
    rows, rule = facts.dataset.holdout, facts.spec.fairness
    # Without a protected attribute the chart compares the scores of the two outcomes.
    groups, by = (rows.protected, rule.attribute) if rule else (facts.dataset.labels(rows), facts.spec.data.outcome)
    drawn = charts.draw(rows.outcome, fitted.score(rows), groups, by, facts.evaluation.threshold, fitted.found)
    experiment = _track(facts, tracker_dir)
    profile = _profile(facts, fitted)
    return bundle_builder.build(facts, fitted.model, fitted.signature, profile, fitted.found, drawn, experiment)


def _profile(facts: Facts, fitted: _Fitted) -> Profile:
    weights = importance(fitted.score, facts.dataset.holdout, facts.spec.evaluation.seed)
    return drift_profile.of_rows(facts.spec, fitted.model, fitted.signature, facts.dataset.training, weights)


def _track(facts: Facts, folder: Path) -> str:
    tracker = open_tracker(facts.spec.model.name, folder)
    tracker.params({"algorithm": facts.candidate.algorithm, "seed": facts.spec.evaluation.seed, **facts.parameters})
    tracker.metrics({metric.name: metric.value for metric in facts.evaluation.metrics})
    tracker.file(EVALUATION, facts.evaluation.encode())
    if facts.fairness:
        tracker.file(FAIRNESS, facts.fairness.encode())
    return tracker.end()


def _manifest_facts(facts: Facts) -> JsonObject:
    return {
        "algorithm": facts.candidate.algorithm,
        "data_digest": facts.dataset.digest,
        "metrics": {metric.name: metric.value for metric in facts.evaluation.metrics},
        "disparate_impact": facts.fairness.disparate_impact if facts.fairness else None,
    }
