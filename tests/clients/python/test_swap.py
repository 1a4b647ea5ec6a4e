"""A model may change between two requests, or during one: rows are never believed in the wrong column order."""

from typing import Any

import numpy as np
import pytest

from tests.clients.python.stranger import Stranger
from tidegate_client import InputError

ROWS = [{"income": 1.0, "loan": 2.0, "purpose": "car"}]
AGED = [{**ROWS[0], "age": 3.0}]


def _check(answer: Any, stranger: Stranger, rows: list[dict[str, Any]]) -> None:
    columns = stranger.models["credit"][answer.version].numeric
    np.testing.assert_array_equal(answer["numeric"], [[row[name] for name in columns] for row in rows])


def test_metadata_are_asked_once_per_version(client: Any, stranger: Stranger) -> None:
    for _ in range(3):
        _check(client.predict("credit", ROWS), stranger, ROWS)
    assert stranger.metadata_requests == [("credit", ""), ("credit", "1")]
    assert len(stranger.inferences) == 3


def test_a_swap_between_requests_is_noticed_by_the_answer(client: Any, stranger: Stranger) -> None:
    _check(client.predict("credit", ROWS), stranger, ROWS)
    stranger.route["credit"] = "2"
    answer = client.predict("credit", ROWS)
    assert answer.version == "2"
    _check(answer, stranger, ROWS)
    assert {request.id for request in stranger.inferences[1:]} == {answer.id}
    stranger.route["credit"] = "1"
    _check(client.predict("credit", ROWS), stranger, ROWS)


def test_a_swap_between_metadata_and_the_first_inference_is_noticed(client: Any, stranger: Stranger) -> None:
    stranger.swap_on_infer = {"credit": "2"}
    answer = client.predict("credit", ROWS)
    assert answer.version == "2"
    _check(answer, stranger, ROWS)


def test_versions_in_turn_need_no_more_metadata_than_there_are_versions(client: Any, stranger: Stranger) -> None:
    for version in "121212":
        stranger.route["credit"] = version
        _check(client.predict("credit", ROWS), stranger, ROWS)
    assert stranger.metadata_requests == [("credit", ""), ("credit", "1"), ("credit", "2")]


def test_new_columns_are_learned_when_the_data_stop_fitting(client: Any, stranger: Stranger) -> None:
    client.predict("credit", ROWS)
    stranger.route["credit"] = "3"
    _check(client.predict("credit", AGED), stranger, AGED)
    with pytest.raises(InputError, match="missing 'age'"):
        client.predict("credit", ROWS)


def test_a_version_that_answers_and_is_gone_is_asked_no_more(client: Any, stranger: Stranger) -> None:
    client.predict("credit", ROWS)
    stranger.models["credit"] = {"2": stranger.models["credit"]["2"]}
    stranger.route["credit"] = "2"
    answer = client.predict("credit", ROWS)
    assert answer.version == "2"
    _check(answer, stranger, ROWS)


def test_an_asked_version_is_never_left(client: Any, stranger: Stranger) -> None:
    stranger.swap_on_infer = {"credit": "2"}
    assert client.predict("credit", ROWS, version="1").version == "1"
    assert stranger.metadata_requests == [("credit", "1")]
