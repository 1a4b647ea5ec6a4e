"""What a caller sees of a prediction, with both clients, against a server that is not ours."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.clients.python.stranger import Stranger, Version
from tidegate_client import Columns, FeatureDrift, InputError, NotFoundError
from tidegate_protos import inference_pb2 as oip

ROWS: list[dict[str, Any]] = [
    {"purpose": "car", "loan": 10.0, "income": 1.5},
    {"purpose": None, "loan": None, "income": 2},
    {"purpose": "höuse", "loan": float("nan"), "income": -3.25},
]
FORMS = {
    "frame": pd.DataFrame(ROWS),
    "nullable frame": pd.DataFrame(ROWS).convert_dtypes(),
    "columns": {name: [row[name] for row in ROWS] for name in ("loan", "purpose", "income")},
    "rows": ROWS,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_rows_sends_the_same_tensors(client: Any, stranger: Stranger, form: str) -> None:
    answer = client.predict("credit", FORMS[form])
    np.testing.assert_array_equal(answer["numeric"], np.array([[1.5, 10], [2, np.nan], [-3.25, np.nan]], np.float32))
    assert answer["categorical"].tolist() == [["car"], [""], ["höuse"]]
    assert (answer.model, answer.version, answer.classes) == ("credit", "1", ("no", "yes"))
    assert [tuple(tensor.shape) for tensor in stranger.inferences[0].inputs] == [(3, 2), (3, 1)]


def test_tensors_go_as_they_are_and_come_back_equal(client: Any) -> None:
    tensors = {"x": np.array([[1.5, np.nan]]), "label": np.array(["a"], dtype=object), "count": [3]}
    answer = client.predict("echo", tensors)
    assert {name: str(array.dtype) for name, array in answer.outputs.items()} == {"x": "float32", "label": "object", "count": "int8"}
    np.testing.assert_array_equal(answer["x"], tensors["x"])
    assert answer["label"].tolist() == ["a"]
    assert answer["count"].tolist() == [3]


def test_packed_tensors_are_accepted_too(client: Any) -> None:
    answer = client.predict("credit", {"numeric": np.zeros((2, 2)), "categorical": np.array([["a"], ["b"]])})
    assert answer["categorical"].tolist() == [["a"], ["b"]]


def test_a_column_may_be_called_like_an_input(client: Any, stranger: Stranger) -> None:
    stranger.models["odd"] = {"1": Version((("numeric", "FP32", (-1, 1)),), ("numeric",))}
    stranger.route["odd"] = "1"
    assert client.predict("odd", {"numeric": [1, 2]})["numeric"].tolist() == [[1], [2]]


def test_typed_answers_are_read_like_raw_ones(client: Any, stranger: Stranger) -> None:
    tensors = {"x": np.array([[0.1, -np.inf]]), "label": ["é"], "count": [-128]}
    raw = client.predict("echo", tensors)
    stranger.typed = True
    typed = client.predict("echo", tensors)
    for name in tensors:
        np.testing.assert_array_equal(raw[name], typed[name])
        assert raw[name].dtype == typed[name].dtype


def test_answers_become_a_frame(client: Any) -> None:
    frame = client.predict("credit", pd.DataFrame(ROWS, index=[7, 8, 9])).frame(index=[7, 8, 9])
    assert list(frame.columns) == ["numeric_no", "numeric_yes", "categorical"]
    assert frame.loc[9, "categorical"] == "höuse"


def test_parameters_outputs_version_and_id_reach_the_server(client: Any, stranger: Stranger) -> None:
    parameters = {"a": True, "b": -1, "c": "x", "d": 0.5, "e": 1 << 63}
    answer = client.predict("credit", ROWS, version="2", id="mine", parameters=parameters, outputs=["categorical"])
    seen = stranger.inferences[0]
    assert (answer.id, answer.version, list(answer.outputs)) == ("mine", "2", ["categorical"])
    assert {name: value.WhichOneof("parameter_choice") for name, value in seen.parameters.items()} == {
        "a": "bool_param",
        "b": "int64_param",
        "c": "string_param",
        "d": "double_param",
        "e": "uint64_param",
    }
    assert seen.model_version == "2"


def test_the_low_level_call_changes_nothing(client: Any, stranger: Stranger) -> None:
    request = oip.ModelInferRequest(model_name="echo", id="low", raw_input_contents=[b"\x07"])
    request.inputs.add(name="count", datatype="INT8", shape=[1])
    assert client.infer(request).raw_output_contents[0] == b"\x07"
    assert stranger.inferences == [request]


def test_metadata_are_values(client: Any) -> None:
    metadata = client.metadata("credit", "2")
    assert metadata.columns == Columns(("loan", "income"), ("purpose",))
    assert (metadata.classes, metadata.positive, metadata.versions) == (("no", "yes"), "yes", ("1", "2", "3"))
    assert metadata.inputs[0].shape == (-1, 2)
    assert client.metadata("echo").columns is None


def test_health_and_server_metadata(client: Any) -> None:
    assert (client.live(), client.ready(), client.ready("credit")) == (True, False, True)
    assert client.server_metadata().extensions == ("echo",)
    with pytest.raises(NotFoundError):
        client.ready("nobody")


def test_drift_tells_an_absent_distance_from_zero(client: Any) -> None:
    drift = client.drift("credit")
    assert (drift.version, drift.rows, drift.drifted) == ("2", 7, ("purpose",))
    counts = (3, 4), (5, 6)
    moved = FeatureDrift("income", "numeric", ("<=1", ">1"), *counts, 0.5, 0.0, 0.0, drifted=False, persistent=True, warned=True)
    assert drift.features[0] == moved
    assert drift.features[1].ks is None


def test_drift_of_one_window_and_arm_is_asked_for_and_told(client: Any) -> None:
    whole, hour = client.drift("credit"), client.drift("credit", window="1h", arm="canary")
    assert (whole.window, whole.arm) == ("", "")
    assert (hour.window, hour.arm, hour.started, hour.ended) == ("1h", "canary", 3600.0, 7200.0)
    assert (hour.persistent, hour.uncounted) == (("income",), ("age",))
    with pytest.raises(InputError, match="those of this version: 1h"):
        client.drift("credit", window="2h")


def test_credentials_in_metadata_go_with_every_call(kind: str, stranger: Stranger) -> None:
    from tests.clients.python.conftest import Twin  # noqa: PLC0415

    with Twin(kind, stranger.address, metadata={"authorization": "Bearer t"}) as client:
        client.predict("credit", ROWS)
    assert stranger.headers[0]["authorization"] == "Bearer t"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([{"income": 1, "loan": 2}], ["row 0", "missing 'purpose'"]),
        ({"income": [1], "loan": [2], "purpose": ["a"], "age": [3]}, ["unknown 'age'"]),
        (pd.DataFrame({"income": [1.0, 2.0], "loan": ["3", "x"], "purpose": "a"}), ["'loan'", "row 0", "'3'"]),
        ({"income": [], "loan": [], "purpose": []}, ["no rows"]),
        ({"income": [1, 2], "loan": [3], "purpose": ["a", "b"]}, ["different lengths"]),
        ([1, 2], ["list of dicts"]),
        ("text", ["not str"]),
    ],
)
def test_data_that_do_not_fit_are_named_before_they_are_sent(client: Any, stranger: Stranger, data: Any, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        client.predict("credit", data)
    assert caught.value.code is None
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert stranger.inferences == []


def test_an_unknown_model_is_not_found(client: Any) -> None:
    with pytest.raises(NotFoundError) as caught:
        client.predict("nobody", ROWS)
    assert caught.value.reason == "MODEL_UNKNOWN"
