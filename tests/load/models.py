"""The models that are measured, trained here with a seed: logistic regression of 20 features, boosting of 100 trees, and one of 10 MB.

Registered as training registers them: exported by it, with golden rows and, where drift is to be counted, a profile.
"""

import io
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from registry import bundle
from registry.bundle import NUMERIC, Signature, TensorSpec
from registry.profile import Profile, categorical_feature, numeric_feature
from registry.registry import Registry
from tests.load.messages import FEATURES
from training import onnx_export
from training.dataset import Rows

REFERENCE_ROWS = 2_000
TREES = 100
CLASSES = ("no", "yes")
GOLDEN_ROWS = 8
ACTOR = "bench"


@dataclass(frozen=True)
class Trained:
    """A fitted pipeline, its ONNX bytes and the rows it was fitted on, float32 [n, features]."""

    estimator: Pipeline
    raw: bytes
    reference: NDArray[np.float32]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its features."""
        return _columns(self.reference.shape[1])

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        return Signature(
            (TensorSpec(NUMERIC, "FP32", (-1, len(self.columns)), self.columns),),
            (TensorSpec(onnx_export.LABEL, "BYTES", (-1,)), TensorSpec(onnx_export.PROBABILITIES, "FP32", (-1, len(CLASSES)))),
            CLASSES,
            "yes",
        )


def logistic(seed: int = 0, features: int = FEATURES) -> Trained:
    """A logistic regression; another seed gives other weights."""
    return _trained(LogisticRegression(), seed, features)


def boosting(seed: int = 0) -> Trained:
    """Gradient boosting of 100 trees, of depth 3."""
    return _trained(GradientBoostingClassifier(n_estimators=TREES, random_state=seed), seed, FEATURES)


def _trained(classifier: LogisticRegression | GradientBoostingClassifier, seed: int, features: int) -> Trained:
    random = np.random.default_rng(seed)
    rows = random.standard_normal((REFERENCE_ROWS, features)).astype(np.float32)
    logit = rows @ random.standard_normal(features) + rows[:, 0] * rows[:, 1]
    labels = np.array(CLASSES, object)[(logit + random.logistic(size=REFERENCE_ROWS) > 0).astype(int)]
    estimator = Pipeline([("classifier", classifier)]).fit(rows, labels)
    return Trained(estimator, onnx_export.export(estimator, (features, 0), "bench").raw, rows)


def register(registry: Registry, model: str, trained: Trained, *, profiled: bool) -> int:
    """Register a trained model, with or without a profile; returns its version."""
    labels, probabilities = onnx_export.OnnxModel(trained.raw).run(_rows(trained.reference))
    files = {
        bundle.MODEL: trained.raw,
        bundle.SIGNATURE: trained.signature.encode(),
        bundle.GOLDEN: _archive(
            {
                f"input.{NUMERIC}": trained.reference[:GOLDEN_ROWS],
                f"output.{onnx_export.LABEL}": labels[:GOLDEN_ROWS].astype(str),
                f"output.{onnx_export.PROBABILITIES}": probabilities[:GOLDEN_ROWS],
            }
        ),
    }
    if profiled:
        columns = tuple(numeric_feature(name, trained.reference[:, place]) for place, name in enumerate(trained.columns))
        predicted = (numeric_feature("score", probabilities[:, 1]), categorical_feature("class", labels.tolist()))
        files[bundle.PROFILE] = Profile(len(labels), columns, predicted).encode()
    return registry.register(model, files, {}, actor=ACTOR, reason="to be measured")


def _rows(numeric: NDArray[np.float32]) -> Rows:
    size = len(numeric)
    return Rows(numeric, np.empty((size, 0), object), np.zeros(size, np.int64), np.empty((size, 0), object))


def register_large(registry: Registry, model: str, megabytes: int = 10) -> int:
    """Register a model of two matrices that take that many MB (1e6 bytes), with golden rows and without a profile."""
    width = int(megabytes * 1e6 / 4 / (FEATURES + 1))
    random = np.random.default_rng(0)
    wide, narrow = (random.standard_normal(shape).astype(np.float32) / width for shape in ((FEATURES, width), (width, 1)))
    nodes = [helper.make_node("MatMul", [NUMERIC, "wide"], ["hidden"]), helper.make_node("MatMul", ["hidden", "narrow"], ["score"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, size]) for name, size in ((NUMERIC, FEATURES), ("score", 1))]
    weights = [numpy_helper.from_array(wide, "wide"), numpy_helper.from_array(narrow, "narrow")]
    graph = helper.make_graph(nodes, "bench", ends[:1], ends[1:], weights)
    large: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    rows = random.standard_normal((GOLDEN_ROWS, FEATURES)).astype(np.float32)
    files = {
        bundle.MODEL: bytes(large.SerializeToString()),
        bundle.SIGNATURE: Signature(
            (TensorSpec(NUMERIC, "FP32", (-1, FEATURES), _columns(FEATURES)),), (TensorSpec("score", "FP32", (-1, 1)),)
        ).encode(),
        bundle.GOLDEN: _archive({f"input.{NUMERIC}": rows, "output.score": rows @ wide @ narrow}),
    }
    return registry.register(model, files, {}, actor=ACTOR, reason="to be loaded")


def _columns(features: int) -> tuple[str, ...]:
    return tuple(f"f{place}" for place in range(features))


def _archive(arrays: dict[str, NDArray[np.generic]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
