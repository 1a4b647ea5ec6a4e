"""From a fitted scikit-learn pipeline to ONNX bytes, what ONNX Runtime answers with them, and the check that both answer alike.

The only module of training that imports skl2onnx and onnxruntime.
"""

import os

import numpy as np
from numpy.typing import NDArray
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.pipeline import Pipeline

# Without this ONNX Runtime 1.32 writes a telemetry database under the user's home; disable_telemetry_events() does not stop it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

from registry.bundle import CATEGORICAL, NUMERIC, Signature, TensorSpec
from training import features
from training.dataset import Inputs
from training.errors import ModelFileError, ParityError
from training.spec import DataTable

LABEL = "label"
PROBABILITIES = "probabilities"
TOLERANCE = 1e-5
# The oldest operator sets with all that we export: the daemon's ONNX Runtime may be older than ours.
_OPSETS = {"": 18, "ai.onnx.ml": 3}


class OnnxModel:
    """ONNX bytes and a session to run them: one thread, no spinning."""

    def __init__(self, raw: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.log_severity_level = 3
        self.raw = raw
        self._session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])

    def run(self, rows: Inputs) -> tuple[NDArray[np.object_], NDArray[np.float32]]:
        """Predicted class names, object of str [n], and probabilities, float32 [n, 2]."""
        labels, probabilities = self._session.run([LABEL, PROBABILITIES], inputs(rows))
        return np.asarray(labels, object), np.asarray(probabilities, np.float32)

    def tensors(self) -> tuple[dict[str, int], frozenset[str]]:
        """How many columns each input has, and the names of the outputs."""
        taken = {tensor.name: tensor.shape[-1] for tensor in self._session.get_inputs()}
        return taken, frozenset(tensor.name for tensor in self._session.get_outputs())


def load(raw: bytes, signature: Signature) -> OnnxModel:
    """A model as `export` makes them, from its bytes.

    Raises:
        ModelFileError: if ONNX Runtime refuses them, or the model takes or gives other tensors than `signature` and this module know.
    """
    try:
        model = OnnxModel(raw)
    except Exception as error:  # onnxruntime raises a class of its own per status, with no common base
        raise ModelFileError(f"model.onnx does not load: {' '.join(str(error).split())[:200]}") from error
    taken, given = model.tensors()
    expected = {tensor.name: len(tensor.columns) for tensor in signature.inputs}
    if taken != expected or not taken.keys() <= {NUMERIC, CATEGORICAL} or not given >= {LABEL, PROBABILITIES}:
        raise ModelFileError(
            f"model.onnx takes {taken} and gives {', '.join(sorted(given))}: "
            f"signature.json says it takes {expected}, and a profile is made with {NUMERIC}, {CATEGORICAL}, {LABEL} and {PROBABILITIES}"
        )
    if signature.positive not in signature.classes:
        raise ModelFileError("signature.json does not name the classes and the positive one: there is no score to make a profile of")
    return model


def inputs(rows: Inputs) -> dict[str, NDArray[np.float32] | NDArray[np.object_]]:
    """The packed inputs by name; one without columns is left out."""
    packed: dict[str, NDArray[np.float32] | NDArray[np.object_]] = {NUMERIC: rows.numeric, CATEGORICAL: rows.categorical}
    return {name: matrix for name, matrix in packed.items() if matrix.shape[1]}


def export(estimator: Pipeline, widths: tuple[int, int], name: str) -> OnnxModel:
    """Convert a pipeline fitted on `widths` = (p, q) packed columns; `name` goes into the graph, so that equal models are equal bytes."""
    types = [(NUMERIC, FloatTensorType([None, widths[0]])), (CATEGORICAL, StringTensorType([None, widths[1]]))]
    graph = convert_sklearn(
        estimator,
        name=name,
        initial_types=[(packed, kind) for packed, kind in types if kind.shape[1]],
        final_types=[(LABEL, StringTensorType([None])), (PROBABILITIES, FloatTensorType([None, 2]))],
        options={id(estimator): {"zipmap": False}},
        target_opset=_OPSETS,
    )
    return OnnxModel(graph.SerializeToString())


def signature(estimator: Pipeline, data: DataTable) -> Signature:
    """What the exported model takes and gives, in the words of the Open Inference Protocol."""
    packed = (
        TensorSpec(NUMERIC, "FP32", (-1, len(data.numeric)), data.numeric),
        TensorSpec(CATEGORICAL, "BYTES", (-1, len(data.categorical)), data.categorical),
    )
    classes = tuple(map(str, estimator.classes_))
    return Signature(
        inputs=tuple(tensor for tensor in packed if tensor.columns),
        outputs=(TensorSpec(LABEL, "BYTES", (-1,)), TensorSpec(PROBABILITIES, "FP32", (-1, len(classes)))),
        classes=classes,
        positive=data.positive,
    )


def check_parity(estimator: Pipeline, model: OnnxModel, rows: Inputs) -> float:
    """The largest difference of a probability over `rows`.

    Raises:
        ParityError: if a label differs, or a probability by more than `TOLERANCE`.
    """
    labels, probabilities = model.run(rows)
    matrix = features.pack(rows)
    expected, reference = estimator.predict(matrix), estimator.predict_proba(matrix)
    difference = float(np.abs(probabilities - reference).max())
    if different := int((labels != expected).sum()):
        raise ParityError(
            f"ONNX Runtime and scikit-learn give different labels for {different} of {len(rows)} rows; nothing was registered"
        )
    if not difference <= TOLERANCE:  # NaN is a difference too
        raise ParityError(
            f"ONNX Runtime and scikit-learn differ by {difference:.2g} in a probability, over {TOLERANCE:g}; nothing was registered"
        )
    return difference
