"""Quality as points: every one is inside the picture, higher where it is better, and all of it can be read without seeing."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from control_plane.console.points import HEIGHT, SIDE, WIDTH, Chart, auc_by_day, calibration, words
from control_plane.quality.join import FOREIGN, NEGATIVE, POSITIVE, UNLABELLED, JoinedRows
from control_plane.quality.measures import Figure
from control_plane.quality.report import Report, report
from tests.control_plane.quality.conftest import DAY, NOON


def made(days: list[int], scores: list[float], outcomes: list[int]) -> Report:
    """What is told of rows of these days."""
    asked = np.array([int((NOON + day * DAY).timestamp() * 1000) for day in days], np.int64)
    return report(JoinedRows(asked, np.array(scores, np.float64), np.array(outcomes, np.int8)), NOON + 1000 * DAY)


def inside(chart: Chart, width: int, height: int) -> None:
    """Look at every place of a picture."""
    assert (chart.width, chart.height) == (width, height)
    for point in chart.points:
        assert 0 < point.x < width
        assert 0 < point.high_y <= point.y <= point.low_y < height
    guide = chart.guide
    assert all(0 <= x <= width for x in (guide.x1, guide.x2))
    assert all(0 < y < height for y in (guide.y1, guide.y2))


_ROW = st.tuples(
    st.integers(0, 40), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0, np.nan]), st.sampled_from([POSITIVE, NEGATIVE, UNLABELLED, FOREIGN])
)


@given(st.lists(_ROW, max_size=60))
def test_every_point_is_inside_its_picture_whatever_the_rows(found: list[tuple[int, float, int]]) -> None:
    ordered = sorted(found, key=lambda row: row[0])
    whole = made([day for day, _, _ in ordered], [score for _, score, _ in ordered], [outcome for _, _, outcome in ordered])
    by_day, bins = auc_by_day(whole), calibration(whole)
    inside(by_day, WIDTH, HEIGHT)
    inside(bins, SIDE, SIDE)
    assert [name for name, _ in by_day.rows] == [str(cohort.day) for cohort in whole.cohorts]
    assert len(by_day.points) == sum(cohort.judgement.auc.value is not None for cohort in whole.cohorts)
    assert [point.x for point in by_day.points] == sorted(point.x for point in by_day.points)
    assert len(bins.points) == len(bins.rows) == len(whole.bins)


def test_a_day_stands_at_its_date_and_a_better_one_higher() -> None:
    random = np.random.default_rng(2)
    scores = np.tile(random.random(200), 3)
    good, none = random.random(200) < scores[:200], random.random(200) < 0.5
    outcomes = np.concatenate([none, good, good]).astype(int).tolist()
    chart = auc_by_day(made([0] * 200 + [3] * 200 + [4] * 200, scores.tolist(), outcomes))
    first, second, third = chart.points
    assert second.x - first.x > 2.9 * (third.x - second.x)
    assert first.y > second.y == third.y
    assert third.y < chart.guide.y1 == chart.guide.y2 < first.y
    last = (NOON + 4 * DAY).date()
    assert chart.text.startswith(f"AUC of 3 days is known. The last is {last}: 0.")


def test_the_bin_that_misses_most_is_named() -> None:
    whole = made([0] * 8, [0.25] * 4 + [0.75] * 4, [NEGATIVE, NEGATIVE, NEGATIVE, POSITIVE] + [POSITIVE] * 4)
    chart = calibration(whole)
    assert chart.text.startswith("The mean miss is 0.125. Farthest off: score 0.750, positive 1.000 [")
    assert chart.rows[0][0] == "0.250 to 0.250"


def test_where_nothing_is_known_it_is_said_why() -> None:
    assert words(Figure(reason="no row has a label and a score")) == "unknown (no row has a label and a score)"
    assert (
        words(Figure(0.5, reason="one row of a class is too few for an interval"))
        == "0.500 (one row of a class is too few for an interval)"
    )
    assert words(Figure(0.8125, 0.75, 0.9)) == "0.812 [0.750, 0.900]"
    empty = made([0], [0.5], [UNLABELLED])
    assert calibration(empty).text == "No row has a label and a score."
    assert auc_by_day(empty).text == "AUC of 0 days is known."
    assert auc_by_day(empty).rows == ((str(NOON.date()), "unknown (no row has a label and a score), 0 rows"),)
