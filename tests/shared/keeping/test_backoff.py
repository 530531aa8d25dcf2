"""Which tenants have to wait, and how much is kept of them."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from shared.domain.leases import TenantApp, Timing
from shared.keeping.backoff import TIMEOUTS_BEFORE_BACKOFF, TenantBackoff
from tests.support.stores import NOW

MINUTE = timedelta(minutes=1)


@dataclass
class SteppedClock:
    time: datetime = NOW

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


def account(number: int) -> TenantApp:
    return TenantApp(f"tenant-{number}", None)


def test_a_throttled_tenant_waits_as_long_as_graph_asked_the_longest(clock: SteppedClock) -> None:
    tenants = TenantBackoff(clock, Timing())

    tenants.record_throttle(account(1), 2 * MINUTE)
    tenants.record_throttle(account(1), MINUTE)

    slow = tenants.current(account(1))
    assert slow is not None
    assert slow.until == NOW + 2 * MINUTE
    clock.time += 2 * MINUTE
    assert tenants.current(account(1)) is None


def test_one_answer_is_enough_for_a_tenant_that_hung(clock: SteppedClock) -> None:
    tenants = TenantBackoff(clock, Timing())
    for _ in range(TIMEOUTS_BEFORE_BACKOFF - 1):
        tenants.record_timeout(account(1))
    tenants.record_success(account(1))
    tenants.record_timeout(account(1))
    assert tenants.current(account(1)) is None

    for _ in range(TIMEOUTS_BEFORE_BACKOFF - 1):
        tenants.record_timeout(account(1))
    assert tenants.current(account(1)) is not None


def test_tenants_whose_wait_is_over_are_forgotten_though_nobody_asks_for_them(clock: SteppedClock) -> None:
    tenants = TenantBackoff(clock, Timing())
    for number in range(100):
        tenants.record_throttle(account(number), MINUTE)
    clock.time += MINUTE

    for number in range(100, 120):
        tenants.record_throttle(account(number), MINUTE)

    assert list(tenants._backoffs) == [account(number) for number in range(100, 120)]


def test_no_more_than_so_many_are_known(clock: SteppedClock) -> None:
    tenants = TenantBackoff(clock, Timing(), max_tenants=10)
    tenants.record_timeout(account(1000))
    for number in range(100):
        tenants.record_throttle(account(number), MINUTE)
        tenants.record_timeout(account(number))
        if number % 5 == 0:
            tenants.record_timeout(account(1000))

    assert list(tenants._backoffs) == [account(number) for number in range(90, 100)]
    assert tenants.current(account(89)) is None  # forgotten: its next keepAlive is sent, and Graph says so again
    assert len(tenants._timeouts) == 10
    for _ in range(TIMEOUTS_BEFORE_BACKOFF - 21):  # the count of the one that hangs again and again was never lost
        tenants.record_timeout(account(1000))
    assert tenants.current(account(1000)) is not None
