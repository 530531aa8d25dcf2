"""The states of destinations: what several instances learn of one bot."""

from datetime import datetime, timedelta
from random import Random
from unittest.mock import patch

import pytest

from shared.domain.deliveries import Destination
from shared.domain.leases import Timing
from shared.errors import StoreUnavailable
from shared.relay.breaker import (
    CACHE_TTL,
    FAILURES_BEFORE_OPEN,
    IDLE_TIME,
    MAX_COUNTED,
    PROBE_TIMEOUT,
    PROBE_WAIT,
    REREAD_AFTER_ERROR,
    Destinations,
    Obstacle,
)
from shared.relay.schedule import BREAKER_PAUSE, MAX_BREAKER_PAUSE, Schedule
from shared.storage.memory_table import MemoryTable
from shared.storage.outbox import OutboxStore
from tests.support.clocks import SteppedClock
from tests.support.relaying import HOUR, MINUTE, SECOND, World

HERE, THERE = Destination("bot", "here"), Destination("bot", "there")


def obstacle(destinations: Destinations, destination: Destination = HERE) -> Obstacle | None:
    blocked = destinations.blocked(destination)
    return blocked.obstacle if blocked else None


async def opened(world: World) -> Destinations:
    """Destinations that have just opened the breaker of one."""
    destinations = world.process.destinations
    for _ in range(FAILURES_BEFORE_OPEN):
        assert obstacle(destinations) is None
        await destinations.record_failure(HERE)
    assert obstacle(destinations) is Obstacle.BREAKER_OPEN
    return destinations


async def test_a_success_between_failures_keeps_the_breaker_closed() -> None:
    world = World()
    destinations = world.process.destinations
    for _ in range(3):
        for _ in range(FAILURES_BEFORE_OPEN - 1):
            await destinations.record_failure(HERE)
        await destinations.record_success(HERE)
    assert obstacle(destinations) is None
    assert world.process.table.requests.total() == 0


async def test_one_probe_at_a_time_is_let_through_by_all_instances_together() -> None:
    world = World()
    mine = await opened(world)
    other = world.start_process().destinations
    await other.refresh()
    assert obstacle(other) is Obstacle.BREAKER_OPEN
    assert obstacle(other, THERE) is None
    assert await mine.admit(HERE)
    world.clock.time += BREAKER_PAUSE
    assert await mine.admit(HERE) is None
    for each in (mine, other):
        blocked = await each.admit(HERE)
        assert blocked
        assert blocked.until - world.clock.now() == PROBE_WAIT
    assert obstacle(mine) is Obstacle.BREAKER_OPEN  # first attempts are not made meanwhile
    await mine.record_success(HERE)
    assert await mine.admit(HERE) is None
    world.clock.time += CACHE_TTL
    await other.refresh()
    assert await other.admit(HERE) is None
    assert world.rows("destination") == []


class MovingClock(SteppedClock):
    """A clock that moves on between any two looks at it, as real ones do."""

    def now(self) -> datetime:
        self.time += timedelta(milliseconds=1)
        return self.time


async def test_a_probe_is_let_through_although_the_state_takes_time_to_read() -> None:
    clock = MovingClock()
    destinations = Destinations(OutboxStore(MemoryTable()), clock, Schedule(Timing(), Random(0)))
    for _ in range(FAILURES_BEFORE_OPEN):
        await destinations.record_failure(HERE)
    assert await destinations.admit(HERE)
    clock.time += BREAKER_PAUSE
    assert await destinations.admit(HERE) is None


async def test_a_probe_that_dies_is_followed_by_another() -> None:
    world = World()
    mine = await opened(world)
    world.clock.time += BREAKER_PAUSE
    assert await mine.admit(HERE) is None
    world.clock.time += PROBE_TIMEOUT
    assert await mine.admit(HERE) is None


async def test_each_probe_that_fails_doubles_the_pause_up_to_5_minutes() -> None:
    world = World()
    mine = await opened(world)
    pauses = []
    for _ in range(6):
        blocked = mine.blocked(HERE)
        assert blocked
        pauses.append(blocked.until - world.clock.now())
        world.clock.time = blocked.until
        assert await mine.admit(HERE) is None
        await mine.record_failure(HERE)
        await mine.record_failure(HERE)  # an attempt that was on its way before says nothing new
    assert pauses == [BREAKER_PAUSE, 2 * BREAKER_PAUSE, 4 * BREAKER_PAUSE, 8 * BREAKER_PAUSE, *[MAX_BREAKER_PAUSE] * 2]


async def test_a_success_that_was_on_its_way_does_not_end_a_rest() -> None:
    world = World()
    mine = world.process.destinations
    await mine.record_rest(HERE, 10 * MINUTE)
    await mine.record_rest(HERE, MINUTE)
    await mine.record_success(HERE)
    blocked = mine.blocked(HERE)
    assert blocked
    assert (blocked.obstacle, blocked.until) == (Obstacle.RESTING, world.clock.now() + 10 * MINUTE)
    world.clock.time += 10 * MINUTE
    assert obstacle(mine) is None
    await mine.record_success(HERE)
    assert world.rows("destination") == []


async def test_a_probe_waits_for_the_end_of_a_rest_too() -> None:
    world = World()
    mine = await opened(world)
    await world.start_process().destinations.record_rest(HERE, HOUR)
    world.clock.time += BREAKER_PAUSE
    blocked = await mine.admit(HERE)
    assert blocked
    assert blocked.obstacle is Obstacle.RESTING


async def test_a_rest_counts_at_most_an_hour() -> None:
    world = World()
    await world.process.destinations.record_rest(HERE, 24 * HOUR)
    blocked = world.process.destinations.blocked(HERE)
    assert blocked
    assert blocked.until == world.clock.now() + HOUR


async def test_a_destination_that_is_off_stays_off_until_it_is_enabled() -> None:
    world = World()
    mine = world.process.destinations
    await mine.record_gone(HERE)
    await mine.record_success(HERE)  # a replay was delivered
    world.clock.time += timedelta(days=30)
    await mine.refresh()
    assert obstacle(mine) is Obstacle.DISABLED
    assert obstacle(mine, THERE) is None
    await mine.enable("another")
    assert obstacle(mine) is Obstacle.DISABLED
    await world.start_process().destinations.enable("bot")
    await mine.refresh(force=True)
    assert obstacle(mine) is None


async def test_states_are_read_at_most_every_30_seconds_and_known_ones_outlive_an_outage() -> None:
    world = World()
    mine = world.process.destinations
    await mine.record_gone(HERE)
    world.process.table.requests.clear()
    for _ in range(3):
        await mine.refresh()
    assert world.process.table.requests["pages"] <= 2  # a page, and the end of the scan
    world.process.table.is_away = True
    world.clock.time += CACHE_TTL + SECOND
    await mine.refresh()
    assert obstacle(mine) is Obstacle.DISABLED
    with pytest.raises(StoreUnavailable):
        await mine.record_gone(HERE)


async def test_states_that_cannot_be_read_are_not_read_again_by_each_notification() -> None:
    """Notifications would wait for the store one after another, until Graph is answered 503."""
    world = World()
    mine, table = world.process.destinations, world.process.table
    with patch.object(table, "pages", wraps=table.pages) as pages:
        table.is_away = True
        for _ in range(3):
            await mine.refresh()
        assert pages.call_count == 1
        table.is_away = False
        world.clock.time += REREAD_AFTER_ERROR
        await mine.refresh()
        assert pages.call_count == 2


async def test_a_breaker_that_another_instance_closed_opens_after_five_failures_again() -> None:
    world = World()
    mine = await opened(world)
    other = world.start_process().destinations
    await other.refresh()
    await other.record_success(HERE)
    await mine.refresh(force=True)
    await mine.record_failure(HERE)
    assert obstacle(mine) is None


async def test_instances_that_are_gone_are_forgotten_and_those_that_are_off_are_not() -> None:
    world = World()
    mine = await opened(world)
    await mine.record_gone(THERE)
    world.clock.time += BREAKER_PAUSE + IDLE_TIME - SECOND
    await mine.forget_idle()
    assert len(world.rows("destination")) == 2
    world.clock.time += SECOND
    await mine.forget_idle()
    assert [row.key for row in world.rows("destination")] == ["destination|bot|there"]


async def test_failures_are_counted_for_a_bounded_number_of_destinations() -> None:
    """A callback may name any `to`."""
    mine = World().process.destinations
    for number in range(MAX_COUNTED + 10):
        await mine.record_failure(Destination("bot", f"pod-{number}"))
    assert len(mine._failures) == MAX_COUNTED


async def test_a_breaker_that_closes_leaves_the_rest() -> None:
    world = World()
    mine = await opened(world)
    await mine.record_rest(HERE, HOUR)
    assert await mine.record_success(HERE)
    assert obstacle(mine) is Obstacle.RESTING
    world.clock.time += HOUR
    assert await mine.admit(HERE) is None
