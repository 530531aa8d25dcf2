"""Which tenants have to wait, and how much is kept of them."""

from datetime import timedelta

import pytest

from shared.domain.leases import TenantApp, Timing
from shared.keeping.backoff import TIMEOUTS_BEFORE_BACKOFF, TenantBackoff
from tests.support.clocks import SteppedClock
from tests.support.stores import NOW

MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock(NOW)


def tenant_app(number: int) -> TenantApp:
    return TenantApp(f"tenant-{number}", None)


class TestWait:
    def test_longest_retry_after_counts(self, clock: SteppedClock) -> None:
        backoffs = TenantBackoff(clock, Timing())

        backoffs.record_throttle(tenant_app(1), 2 * MINUTE)
        backoffs.record_throttle(tenant_app(1), MINUTE)

        backoff = backoffs.current(tenant_app(1))
        assert backoff is not None
        assert backoff.until == NOW + 2 * MINUTE
        clock.time += 2 * MINUTE
        assert backoffs.current(tenant_app(1)) is None

    def test_one_success_ends_the_count_of_timeouts(self, clock: SteppedClock) -> None:
        backoffs = TenantBackoff(clock, Timing())
        for _ in range(TIMEOUTS_BEFORE_BACKOFF - 1):
            backoffs.record_timeout(tenant_app(1))
        backoffs.record_success(tenant_app(1))
        backoffs.record_timeout(tenant_app(1))
        assert backoffs.current(tenant_app(1)) is None

        for _ in range(TIMEOUTS_BEFORE_BACKOFF - 1):
            backoffs.record_timeout(tenant_app(1))
        assert backoffs.current(tenant_app(1)) is not None


class TestMemory:
    def test_backoffs_that_are_over_are_deleted_without_a_question_for_them(self, clock: SteppedClock) -> None:
        backoffs = TenantBackoff(clock, Timing())
        for number in range(100):
            backoffs.record_throttle(tenant_app(number), MINUTE)
        clock.time += MINUTE

        for number in range(100, 120):
            backoffs.record_throttle(tenant_app(number), MINUTE)

        assert list(backoffs._backoffs) == [tenant_app(number) for number in range(100, 120)]

    def test_tenants_are_bounded(self, clock: SteppedClock) -> None:
        backoffs = TenantBackoff(clock, Timing(), max_tenants=10)
        backoffs.record_timeout(tenant_app(1000))
        for number in range(100):
            backoffs.record_throttle(tenant_app(number), MINUTE)
            backoffs.record_timeout(tenant_app(number))
            if number % 5 == 0:
                backoffs.record_timeout(tenant_app(1000))

        assert list(backoffs._backoffs) == [tenant_app(number) for number in range(90, 100)]
        # 89 is forgotten: its next keepAlive is sent, and Graph throttles it again.
        assert backoffs.current(tenant_app(89)) is None
        assert len(backoffs._timeouts) == 10
        # The tenant that hangs again and again was never forgotten: 1 + 100 / 5 = 21 time-outs were counted before.
        for _ in range(TIMEOUTS_BEFORE_BACKOFF - 21):
            backoffs.record_timeout(tenant_app(1000))
        assert backoffs.current(tenant_app(1000)) is not None
