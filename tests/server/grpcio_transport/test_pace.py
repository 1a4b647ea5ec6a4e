"""What is expected of a batch is what batches took, whatever happened to one of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.grpcio_transport.pace import FIRST_GUESS, Pace

MAX_ROWS = 1024


def learnt(*batches: tuple[int, float]) -> Pace:
    pace = Pace()
    for rows, seconds in batches:
        pace.add(rows, seconds)
    return pace


def test_line_of_fixed_and_per_row_cost_is_found() -> None:
    pace = learnt(*[(rows, 0.002 + 0.00001 * rows) for rows in (1, 100, 1000, 30, 700)])
    for rows in (1, 50, 1024):
        assert pace.expect(rows, MAX_ROWS) == pytest.approx(0.002 + 0.00001 * rows)
    assert pace.expect(3000, MAX_ROWS) == pytest.approx(3 * 0.002 + 0.00001 * 3000)


def test_before_the_first_batch_a_guess_is_made() -> None:
    assert Pace().expect(2 * MAX_ROWS, MAX_ROWS) == 2 * FIRST_GUESS


def test_larger_batches_than_any_seen_are_not_thought_impossible() -> None:
    pace = learnt(*[(1, 0.0005)] * 100)
    assert pace.expect(1_000_000, MAX_ROWS) < 1


def test_one_batch_that_was_held_up_changes_little() -> None:
    pace = learnt(*[(rows, 0.001) for rows in (10, 100) * 50])
    before = pace.expect(100, MAX_ROWS)
    pace.add(100, 5.0)
    assert pace.expect(100, MAX_ROWS) < 1.5 * before


def test_model_that_has_become_slow_is_known_to_be_after_some_batches() -> None:
    pace = learnt(*[(rows, 0.001) for rows in (10, 100) * 50])
    for rows in (10, 100) * 30:
        pace.add(rows, 0.1)
    assert pace.expect(100, MAX_ROWS) > 0.08


def test_model_that_has_become_fast_is_known_to_be_after_some_batches() -> None:
    pace = learnt(*[(rows, 0.1) for rows in (10, 100) * 50])
    for rows in (10, 100) * 50:
        pace.add(rows, 0.001)
    assert pace.expect(100, MAX_ROWS) < 0.005


@given(
    st.lists(st.tuples(st.integers(1, MAX_ROWS), st.floats(0, 10)), max_size=50),
    st.integers(1, 10 * MAX_ROWS),
    st.integers(0, 10 * MAX_ROWS),
)
def test_more_rows_never_take_less_and_nothing_takes_negative_time(batches: list[tuple[int, float]], rows: int, more: int) -> None:
    pace = learnt(*batches)
    shorter, longer = pace.expect(rows, MAX_ROWS), pace.expect(rows + more, MAX_ROWS)
    assert 0 <= shorter <= longer + 1e-9
