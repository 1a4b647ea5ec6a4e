"""Bounds and rates: what is let in, what is refused, and that all that is let in is given back."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from server.errors import DeadlineUnreachableError, QueueFullError, RateLimitedError
from server.grpcio_transport import admission
from server.grpcio_transport.admission import CALLER_SHARE, MAX_BUCKETS, SHARES, Admission, RateLimits, check_deadline
from server.grpcio_transport.fair_queue import HIGH, LOW, NORMAL, SHADOW

MAX_ROWS, MAX_BYTES = 40, 1000


class AdmissionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission(MAX_ROWS, MAX_BYTES)
        self.inside: list[tuple[str, int, int, int]] = []

    @rule(caller=st.sampled_from("abc"), level=st.integers(HIGH, SHADOW), rows=st.integers(0, 100), size=st.integers(0, 600))
    def admit(self, caller: str, level: int, rows: int, size: int) -> None:
        fits = self._fits(self.inside, SHARES[level], rows, size)
        own = [one for one in self.inside if one[0] == caller and (one[2] or one[3])]
        fits &= not own or self._fits(own, SHARES[level] * CALLER_SHARE, rows, size)
        try:
            self.admission.admit(caller, level, rows, size)
        except QueueFullError:
            assert self.inside
            assert not fits
        else:
            assert fits or not self.inside
            self.inside.append((caller, level, rows, size))

    def _fits(self, inside: list[tuple[str, int, int, int]], share: float, rows: int, size: int) -> bool:
        held = sum(min(one, MAX_ROWS // 2) for _, _, one, _ in inside)
        bytes_held = sum(one for _, _, _, one in inside)
        return held + min(rows, MAX_ROWS // 2) <= MAX_ROWS * share and bytes_held + size <= MAX_BYTES * share

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.inside:
            self.admission.release(*self.inside.pop(data.draw(st.integers(0, len(self.inside) - 1))))

    @invariant()
    def counts_are_those_inside(self) -> None:
        assert self.admission.requests == sum(level != SHADOW for _, level, _, _ in self.inside)
        assert self.admission.shadows == sum(level == SHADOW for _, level, _, _ in self.inside)
        assert self.admission.bytes == sum(size for _, _, _, size in self.inside)
        assert self.inside or (self.admission.rows == 0 and not self.admission._held)


TestAdmission = AdmissionMachine.TestCase


def test_less_urgent_levels_fill_less_of_the_bounds() -> None:
    filled = {}
    for level in (HIGH, NORMAL, LOW, SHADOW):
        gate = Admission(MAX_ROWS, MAX_BYTES)
        for caller in range(int(MAX_ROWS * SHARES[level])):
            gate.admit(str(caller), level, 1, 1)
        with pytest.raises(QueueFullError):
            gate.admit("another", level, 1, 1)
        filled[level] = gate.rows
    assert filled == {HIGH: 50, NORMAL: 40, LOW: 20, SHADOW: 10}


def test_one_caller_leaves_room_for_the_next_in_rows_and_in_bytes() -> None:
    for rows, size in ((1, 0), (0, MAX_BYTES // MAX_ROWS)):
        gate = Admission(MAX_ROWS, MAX_BYTES)
        for _ in range(int(MAX_ROWS * CALLER_SHARE)):
            gate.admit("greedy", NORMAL, rows, size)
        with pytest.raises(QueueFullError, match="this caller"):
            gate.admit("greedy", NORMAL, rows, size)
        gate.admit("modest", NORMAL, rows, size)


def test_very_large_request_is_let_in_beside_others_and_others_beside_it() -> None:
    gate = Admission(MAX_ROWS, MAX_BYTES)
    gate.admit("a", NORMAL, 1, 1)
    gate.admit("a", NORMAL, 1_000_000, 1)
    gate.admit("a", NORMAL, 1, 1)
    for rows in (1, 1_000_000, 1):
        gate.release("a", NORMAL, rows, 1)
    assert (gate.requests, gate.rows, gate.bytes) == (0, 0, 0)


def test_deadline_too_near_is_refused_with_the_time_that_is_missing() -> None:
    check_deadline(0.2, 0.2)
    with pytest.raises(DeadlineUnreachableError) as caught:
        check_deadline(0.5, 0.2)
    assert caught.value.retry_seconds == pytest.approx(0.3)


class Clock:
    """Time for the buckets, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 30)), max_size=40), st.floats(0.5, 20), st.floats(1, 20))
def test_bucket_is_that_of_a_simple_reference(asked: list[tuple[float, int]], rate: float, burst: float) -> None:
    clock, limits = Clock(), RateLimits()
    level = burst
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(admission, "time", clock)
        for pause, rows in asked:
            clock.now += pause
            level = min(burst, level + pause * rate)
            needed = min(rows, burst)
            if abs(needed - level) < 1e-6:  # rounding decides
                return
            if needed < level:
                limits.take("a", rate, burst, rows)
                level -= rows
            else:
                with pytest.raises(RateLimitedError) as caught:
                    limits.take("a", rate, burst, rows)
                assert caught.value.retry_seconds == pytest.approx((needed - level) / rate)


def test_callers_do_not_share_a_bucket_and_only_so_many_are_remembered() -> None:
    limits = RateLimits()
    limits.take("a", 0.001, 1, 1)
    limits.take("b", 0.001, 1, 1)
    with pytest.raises(RateLimitedError, match="a may ask for"):
        limits.take("a", 0.001, 1, 1)
    for number in range(MAX_BUCKETS):
        limits.take(f"caller {number}", 0.001, 1, 1)
    limits.take("a", 0.001, 1, 1)  # forgotten, so it has its burst again


def test_retry_that_waits_as_told_is_let_in() -> None:
    limits = RateLimits()
    limits.take("a", 100, 1, 1)
    with pytest.raises(RateLimitedError) as caught:
        limits.take("a", 100, 1, 1)
    assert caught.value.retry_seconds is not None
    time.sleep(caught.value.retry_seconds + 0.001)
    limits.take("a", 100, 1, 1)
