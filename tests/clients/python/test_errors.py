"""Every status has its class, details are read where they are sound, and the pauses between attempts are bounded."""

import re

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate_client import InputError, OverloadedError, TidegateError, UnavailableError, errors, retries


def test_every_status_but_ok_has_a_class() -> None:
    assert set(errors.BY_CODE) == set(grpc.StatusCode) - {grpc.StatusCode.OK}


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    classes = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, TidegateError)}
    drawn = set(re.findall(r"── (\w+Error)\b", errors.__doc__ or ""))
    assert drawn | {"TidegateError"} == classes


@pytest.mark.parametrize("raw", [b"\xff\xff", b"", "text"])
def test_malformed_details_do_not_hide_the_error(raw: bytes | str) -> None:
    error = errors.from_status(grpc.StatusCode.INTERNAL, "broken", [("grpc-status-details-bin", raw)], "host:1")
    assert (str(error), error.reason, error.retry_after) == ("host:1: broken", "", None)


def test_an_error_without_words_names_its_status() -> None:
    assert "UNKNOWN" in str(errors.from_status(grpc.StatusCode.UNKNOWN, "", [], "host:1"))


@given(st.integers(0, 2000), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 100))
def test_pauses_grow_to_a_limit_and_honour_the_server(attempt: int, chance: float, asked: float | None) -> None:
    pause = retries.pause(UnavailableError("x", retry_after=asked), attempt, chance)
    assert pause is not None
    assert 0.05 <= pause - (asked or 0) <= 2.0 or pause == pytest.approx((asked or 0) + 2.0)
    overloaded = retries.pause(OverloadedError("x", retry_after=asked), attempt, chance)
    assert overloaded == (None if asked is None else pause)
    assert retries.pause(InputError("x", retry_after=asked), attempt, chance) is None
