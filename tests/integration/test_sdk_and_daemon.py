"""The published client against the real daemon: data frames in, predictions out, clear refusals."""

import asyncio
from collections.abc import Iterator

import grpc
import numpy as np
import pandas as pd
import pytest

from registry.location import create_registry
from tests import models
from tests.daemons import Daemon, daemon
from tidegate_client import AsyncClient, Client
from tidegate_client.errors import InputError, TidegateError

REFERENCE = np.random.default_rng(3).normal(size=(1000, 3)).astype(np.float32)
TEXTS = ["red"] * 700 + ["green"] * 300


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("sdk")
    registry = create_registry(str(folder / "registry"))
    models.register_classifier(registry, "classifier", 2.0, REFERENCE, TEXTS)
    registry.promote("classifier", 1, to="production", actor="test", reason="first")
    with daemon(folder, {"registry": str(folder / "registry")}) as running:
        running.wait_for("classifier")
        yield running


@pytest.fixture
def client(served: Daemon) -> Iterator[Client]:
    with Client(served.address) as made:
        yield made


def frame(rows: int = 4) -> pd.DataFrame:
    return pd.DataFrame({"kind": TEXTS[:rows], "c": REFERENCE[:rows, 2], "a": REFERENCE[:rows, 0], "b": REFERENCE[:rows, 1]})


def expected(rows: int = 4) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.asarray(1 / (1 + np.exp(-2.0 * REFERENCE[:rows, 0].astype(np.float64))))


def test_data_frame_with_columns_in_any_order_is_predicted(client: Client) -> None:
    prediction = client.predict("classifier", frame())
    assert prediction.version == "1"
    np.testing.assert_allclose(prediction.outputs["probabilities"][:, 1], expected(), atol=1e-6)


def test_arrays_are_predicted(client: Client) -> None:
    tensors = {"numeric": REFERENCE[:4], "categorical": np.array(TEXTS[:4], object).reshape(-1, 1)}
    np.testing.assert_allclose(client.predict("classifier", tensors).outputs["probabilities"][:, 1], expected(), atol=1e-6)


def test_asyncio_client_gives_the_same(served: Daemon) -> None:
    async def predict() -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
        async with AsyncClient(served.address) as client:
            prediction = await client.predict("classifier", frame())
            return np.asarray(prediction.outputs["probabilities"][:, 1])

    np.testing.assert_allclose(asyncio.run(predict()), expected(), atol=1e-6)


@pytest.mark.parametrize(
    ("spoilt", "says"),
    [
        (frame().rename(columns={"a": "aa"}), "'?a'?"),
        (frame().drop(columns="kind"), "kind"),
        (frame().assign(extra=1), "extra"),
        (frame().assign(b="much"), "b"),
        (frame().iloc[:0], "empty|at least one row"),
    ],
    ids=["wrong column", "missing column", "extra column", "text in a numeric column", "empty batch"],
)
def test_rows_that_do_not_fit_are_refused_before_or_by_the_daemon(client: Client, spoilt: pd.DataFrame, says: str) -> None:
    with pytest.raises((InputError, TidegateError), match=says):
        client.predict("classifier", spoilt)


def test_unknown_model_is_told_with_its_status(client: Client) -> None:
    with pytest.raises(TidegateError, match="no model 'nobody'") as caught:
        client.predict("nobody", frame())
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    assert caught.value.reason == "MODEL_UNKNOWN"


def test_drift_of_what_was_sent_is_reported(served: Daemon) -> None:
    with Client(served.address) as client:
        before = client.drift("classifier").rows
        client.predict("classifier", frame(100))
        after = client.drift("classifier")
    assert after.rows - before == 100
    assert [feature.name for feature in after.features] == ["a", "b", "c", "kind", "score", "class"]
