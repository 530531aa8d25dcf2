"""The times of the relay."""

from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.leases import LEASE, Timing
from shared.relay.attempts import LATE_TIMEOUT
from shared.relay.deliverer import REPEAT_AFTER_401
from shared.relay.schedule import (
    FIRST_RETRY,
    MAX_BREAKER_PAUSE,
    MAX_RETRY_DELAY,
    REFUSAL_DELAYS,
    REFUSAL_WINDOW,
    Schedule,
)

SECOND = timedelta(seconds=1)
SCHEDULE = Schedule(Timing(), Random(1))


def test_the_first_retry_comes_after_at_most_5_seconds_and_the_waits_double() -> None:
    assert FIRST_RETRY == 5 * SECOND
    for failures in range(1, 8):
        nominal = FIRST_RETRY * 2 ** (failures - 1)  # the seventh is 320 s, still less than 15 minutes
        waits = {SCHEDULE.retry_delay(failures) for _ in range(50)}
        assert len(waits) > 10  # at random
        assert 0.8 * nominal <= min(waits) <= max(waits) <= nominal


@given(st.integers(0, 10**9))
def test_no_wait_is_longer_than_15_minutes(failures: int) -> None:
    assert SECOND <= SCHEDULE.retry_delay(failures) <= MAX_RETRY_DELAY == 15 * 60 * SECOND


def test_a_refused_delivery_has_four_attempts_and_its_last_begins_within_two_minutes() -> None:
    delays = [SCHEDULE.refusal_delay(refusals) for refusals in range(1, 5)]
    assert delays == [*REFUSAL_DELAYS, None]
    # A delivery that is refused with 401 again and again has one attempt more, after the first delay.
    waits = [REFUSAL_DELAYS[0], *REFUSAL_DELAYS]
    assert sum(waits, timedelta()) + 4 * LATE_TIMEOUT <= REFUSAL_WINDOW  # 55 s + 60 s
    assert REPEAT_AFTER_401 == SECOND


@pytest.mark.parametrize("lease", [LEASE, LEASE / 45, LEASE / 2700], ids=["45 min", "1 min", "1 s"])
def test_times_shrink_with_the_lease_but_not_below_a_second(lease: timedelta) -> None:
    schedule = Schedule(Timing(lease), Random(1))

    def shrunk(span: timedelta) -> object:
        return pytest.approx(
            max(span * (lease / LEASE), SECOND).total_seconds(), rel=1e-4
        )  # it is rounded to 1 us first

    assert schedule.window.total_seconds() == shrunk(timedelta(hours=24))
    assert schedule.overdue_after.total_seconds() == shrunk(timedelta(minutes=1))
    for refusals, delay in enumerate(REFUSAL_DELAYS, 1):
        found = schedule.refusal_delay(refusals)
        assert found is not None
        assert found.total_seconds() == shrunk(delay)
    assert schedule.breaker_pause(99).total_seconds() == shrunk(MAX_BREAKER_PAUSE)
    assert schedule.longest_delay.total_seconds() <= max(MAX_RETRY_DELAY * (lease / LEASE), SECOND).total_seconds()
