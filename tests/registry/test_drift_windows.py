"""Every row is in one window of each length, windows end when they should, and a drift is believed when a naive model says so."""

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from registry.drift import evaluate
from registry.drift_limits import Limits, Window
from registry.drift_tally import Tally
from registry.drift_windows import DriftWindows, OpenWindow
from registry.profile import CategoricalFeature, NumericFeature, Profile

HOUR, MINUTE, HUNDRED = Window(seconds=3600), Window(seconds=60), Window(rows=100)
START = 1_700_000_000.0
LIMITS = Limits(min_rows=40, consecutive=2, windows=(HOUR, MINUTE, HUNDRED))
PROFILE = Profile(
    1000,
    (NumericFeature("x", (0.0, 1.0), (300, 400, 300, 0)), CategoricalFeature("kind", ("a", "b"), (500, 500, 0, 0))),
    (),
    limits=LIMITS,
)
USUAL, SHIFTED = [3, 4, 3, 0, 5, 5, 0, 0], [0, 0, 10, 0, 5, 5, 0, 0]
"""Counts of ten rows: as in the reference, and with another x"""


def tens(number: int, counts: list[int]) -> Tally:
    return Tally(10 * number, number * np.array(counts, np.int64))


@dataclass
class Naive:
    """One window, kept as the list of what was added to it."""

    window: Window
    started: float
    added: list[Tally] = field(default_factory=list)
    closed: Tally = field(default_factory=lambda: Tally.nothing(PROFILE))
    """All windows that are completed, added up"""
    last: tuple[float, float, int] | None = None
    """Start, end and rows of the last of them"""
    streaks: list[int] = field(default_factory=lambda: [0, 0])

    def add(self, tally: Tally, now: float) -> None:
        self.added.append(tally)
        if self.window.rows:
            if sum(each.rows for each in self.added) >= self.window.rows:
                self.close(now)
            return
        while now >= (ended := (math.floor(self.started / self.window.seconds) + 1) * self.window.seconds):
            self.close(float(ended))

    def close(self, ended: float) -> None:
        whole = sum(self.added, Tally.nothing(PROFILE))
        self.closed += whole
        self.last = (self.started, ended, whole.rows)
        self.started, self.added = ended, []
        if whole.rows:
            for feature, verdict in enumerate(evaluate(PROFILE, whole.by_feature(PROFILE))):
                if verdict.rows >= LIMITS.min_rows:
                    self.streaks[feature] = self.streaks[feature] + 1 if verdict.drifted else 0


class Windows(RuleBasedStateMachine):
    """Rows come, time passes and sometimes goes back; the windows are advanced after each step, as a daemon does."""

    @initialize(ahead=st.floats(0, 7200))
    def begin(self, ahead: float) -> None:
        self.clock = self.latest = START + ahead
        self.windows = DriftWindows.begin(PROFILE, self.clock)
        self.total = Tally.nothing(PROFILE)
        self.naive = {window: Naive(window, self.clock) for window in LIMITS.windows}

    @rule(number=st.integers(1, 15), counts=st.sampled_from([USUAL, SHIFTED]), seconds=st.floats(0, 50))
    def serve(self, number: int, counts: list[int], seconds: float) -> None:
        self._advance(seconds, tens(number, counts))

    @rule(seconds=st.floats(0, 4 * 3600))
    def wait(self, seconds: float) -> None:
        self._advance(seconds, Tally.nothing(PROFILE))

    @rule(seconds=st.floats(0, 4 * 3600))
    def set_the_clock_back(self, seconds: float) -> None:
        self._advance(-seconds, tens(1, USUAL))

    def _advance(self, seconds: float, added: Tally) -> None:
        self.clock += seconds
        self.latest = max(self.latest, self.clock)
        self.total += added
        self.windows = self.windows.advance(self.clock, self.total)
        for naive in self.naive.values():
            naive.add(added, self.latest)

    @invariant()
    def every_row_is_in_one_window_of_each_length(self) -> None:
        assert self.windows.everything.tally.rows == self.total.rows
        for naive in self.naive.values():
            opened = self.windows.of(naive.window)
            within = self.total - opened.before
            assert (within.counts == sum(naive.added, Tally.nothing(PROFILE)).counts).all()
            assert (opened.before.counts == naive.closed.counts).all()

    @invariant()
    def windows_begin_and_end_where_the_naive_ones_do(self) -> None:
        for naive in self.naive.values():
            opened = self.windows.of(naive.window)
            assert opened.started == naive.started
            assert naive.last == (None if opened.last is None else (opened.last.started, opened.last.ended, opened.last.tally.rows))

    @invariant()
    def a_drift_is_believed_when_the_naive_model_says_so(self) -> None:
        any_window = np.zeros(2, np.bool_)
        for naive in self.naive.values():
            lasting = np.array(naive.streaks) >= LIMITS.consecutive
            assert self.windows.persistent(naive.window).tolist() == lasting.tolist()
            any_window |= lasting
        assert self.windows.persistent().tolist() == any_window.tolist()


Windows.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestWindows = Windows.TestCase


def served(windows: DriftWindows, *steps: tuple[float, int, list[int]]) -> DriftWindows:
    for seconds, number, counts in steps:
        windows = windows.advance(START + seconds, windows.everything.tally + tens(number, counts))
    return windows


def begun(window: Window) -> DriftWindows:
    return DriftWindows.begin(replace(PROFILE, limits=replace(LIMITS, windows=(window,))), START)


def opened(windows: DriftWindows) -> OpenWindow:
    (only,) = windows.windows
    return only


def test_windows_of_two_daemons_that_began_apart_end_together() -> None:
    first, second = (DriftWindows.begin(PROFILE, START + late).advance(START + 9000, tens(5, USUAL)) for late in (0, 1234))
    assert opened_at(first) == opened_at(second)


def opened_at(windows: DriftWindows) -> list[float]:
    return [each.started for each in windows.windows if each.window.seconds]


def test_window_by_time_ends_at_its_boundary_with_nobody_there() -> None:
    windows = begun(HOUR).advance(START + 5000, Tally.nothing(PROFILE))
    last = opened(windows).last
    assert last is not None
    assert (last.started, last.ended % 3600, last.tally.rows) == (START, 0, 0)


def test_window_by_rows_holds_all_that_came_with_the_last_of_them() -> None:
    windows = served(begun(HUNDRED), (1, 9, USUAL), (2, 30, USUAL))
    last = opened(windows).last
    assert last is not None
    assert (last.tally.rows, last.started, last.ended, opened(windows).started) == (390, START, START + 2, START + 2)


@pytest.mark.parametrize("few", [0, 3])
def test_window_of_few_rows_neither_confirms_a_drift_nor_ends_it(few: int) -> None:
    # The minutes of START end at 40, 100, 160 ... seconds after it.
    once = served(begun(MINUTE), (1, 9, SHIFTED), (40, 0, USUAL), (50, few, SHIFTED), (100, 0, USUAL))
    assert once.persistent().tolist() == [False, False]
    twice = served(once, (110, 9, SHIFTED), (160, 0, USUAL))
    assert twice.persistent().tolist() == [True, False]
    quiet = served(twice, (170, few, USUAL), (220, 0, USUAL), (280, 0, USUAL), (9999, 0, USUAL))
    assert quiet.persistent().tolist() == [True, False]
    recovered = served(quiet, (10_000, 9, USUAL), (10_060, 0, USUAL))
    assert recovered.persistent().tolist() == [False, False]


def test_drift_is_believed_from_the_second_window_in_a_row_and_not_from_two_apart() -> None:
    apart = served(begun(HUNDRED), (1, 10, SHIFTED), (2, 10, USUAL), (3, 10, SHIFTED))
    assert apart.persistent().tolist() == [False, False]
    assert served(apart, (4, 10, SHIFTED)).persistent().tolist() == [True, False]


def test_quiet_moment_changes_nothing_and_keeps_what_was_computed() -> None:
    windows = served(begun(HOUR), (1, 50, USUAL))
    verdict = windows.everything.features
    again = windows.advance(START + 2, windows.everything.tally)
    assert again is windows
    assert again.everything.features is verdict


def test_window_that_the_limits_do_not_have_is_told_from_one_that_is_empty() -> None:
    with pytest.raises(KeyError):
        begun(HOUR).of(MINUTE)


def test_without_windows_and_without_features_nothing_lasts() -> None:
    bare = DriftWindows.begin(Profile(0, (), (), limits=replace(LIMITS, windows=())), START).advance(
        START + 9, Tally(3, np.zeros(0, np.int64))
    )
    assert bare.persistent().tolist() == []
    assert (bare.everything.tally.rows, bare.everything.features) == (3, ())
