"""The counts of a sweep, and their sum."""

from datetime import timedelta

import pytest

from shared.keeping.counts import SweepCounts
from shared.keeping.renewer import Outcome

MINUTE = timedelta(minutes=1)


def test_sum_adds_every_count() -> None:
    assert SweepCounts(1, 2, 3, 4, 5, 6, 7) + SweepCounts(10, 20, 30, 40, 50, 60, 70) == SweepCounts(
        11, 22, 33, 44, 55, 66, 77
    )


@pytest.mark.parametrize(
    ("one", "other", "smaller"),
    [
        pytest.param(None, None, None, id="no call in either"),
        pytest.param(MINUTE, None, MINUTE, id="no call in the second"),
        pytest.param(None, MINUTE, MINUTE, id="no call in the first"),
        pytest.param(2 * MINUTE, MINUTE, MINUTE, id="the smaller of two"),
        pytest.param(-MINUTE, MINUTE, -MINUTE, id="a lease that is over"),
    ],
)
def test_sum_has_the_smaller_margin(one: timedelta | None, other: timedelta | None, smaller: timedelta | None) -> None:
    assert (SweepCounts(margin=one) + SweepCounts(margin=other)).margin == smaller


@pytest.mark.parametrize(
    ("outcome", "counts"),
    [
        pytest.param(Outcome.RENEWED, SweepCounts(renewed=1), id="renewed"),
        pytest.param(Outcome.ENDED, SweepCounts(ended=1), id="ended"),
        pytest.param(Outcome.FAILING, SweepCounts(failing=1), id="failing"),
        pytest.param(Outcome.THROTTLED, SweepCounts(), id="throttled, to be sent again"),
    ],
)
def test_outcome_of_a_keep_alive_counts_once(outcome: Outcome, counts: SweepCounts) -> None:
    assert SweepCounts.of(outcome) == counts
