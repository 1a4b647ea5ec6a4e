"""A replica that keeps dying is started ever more rarely, and one that lived well at once again."""

from hypothesis import given
from hypothesis import strategies as st

from server.restarts import FIRST_SECONDS, MOST_SECONDS, SETTLED_SECONDS, Restarts


def pauses(lives: list[float]) -> list[float]:
    """The pauses after replicas that lived so long, one after the other."""
    restarts, seen = Restarts(), []
    for lived in lives:
        seconds, restarts = restarts.after(lived)
        seen.append(seconds)
    return seen


def test_pause_doubles_up_to_half_a_minute() -> None:
    assert pauses([0.0] * 9) == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_replica_that_lived_a_minute_is_started_again_as_if_it_were_the_first_to_die() -> None:
    assert pauses([0, 0, 0, 60, 0]) == [0.5, 1, 2, 0.5, 1]


@given(st.lists(st.floats(0, 1e6), max_size=200))
def test_pause_is_bounded_and_never_shorter_than_the_one_before_but_for_a_replica_that_settled(lives: list[float]) -> None:
    seen = pauses(lives)
    assert all(FIRST_SECONDS <= seconds <= MOST_SECONDS for seconds in seen)
    for before, after, lived in zip(seen, seen[1:], lives[1:], strict=False):
        assert after >= before or lived >= SETTLED_SECONDS
