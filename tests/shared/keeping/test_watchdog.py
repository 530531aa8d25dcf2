"""The dead man's switch: it sweeps when the timer is dead, and there is one chain of messages."""

import asyncio
from datetime import timedelta
from itertools import pairwise

import pytest

from shared.domain.leases import Timing, WatchdogState, Watermark
from shared.errors import StoreUnavailable
from shared.keeping.renewal_pass import SweepConfig
from shared.keeping.watchdog import Watchdog
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.store import SHARDS, shard_of
from shared.storage.wakeup_queue import Sweep
from tests.support.keeping import HOUR, MINUTE, TICK, BrokenStore, World

STALE_AFTER = Timing().sweep_stale_after  # 20 minutes


def watchdog_of(world: World) -> Watchdog:
    return Watchdog(world.store, BestEffortQueue(world.queue, world.clock, Timing()), world.clock, SweepConfig())


class TestArm:
    async def test_sends_a_message_and_names_it_in_the_row(self, world: World) -> None:
        watchdog, now = watchdog_of(world), world.clock.now()
        assert not watchdog.has_successor
        assert await watchdog.arm(STALE_AFTER, now)
        assert world.queue.waiting() == [(STALE_AFTER, Sweep(wake_up="watchdog", due=now + STALE_AFTER))]
        assert await world.store.get_watchdog_state() == WatchdogState(now + STALE_AFTER, now)
        assert watchdog.has_successor

    @pytest.mark.parametrize(
        ("later", "messages"),
        [
            pytest.param(2 * MINUTE, 1, id="not again within 3 minutes"),
            pytest.param(3 * MINUTE, 2, id="again after 3 minutes"),
        ],
    )
    async def test_sends_at_most_one_in_three_minutes(self, world: World, later: timedelta, messages: int) -> None:
        assert Timing().sweep_fresh_for == 3 * MINUTE
        watchdog = watchdog_of(world)
        await watchdog.arm(STALE_AFTER, world.clock.now())
        await world.advance(later)
        assert await watchdog.arm(STALE_AFTER, world.clock.now())
        assert len(world.sweep_messages()) == messages

    async def test_is_false_if_the_queue_takes_nothing(self, world: World) -> None:
        watchdog = watchdog_of(world)
        world.queue.broken = True
        assert not await watchdog.arm(STALE_AFTER, world.clock.now())
        assert await world.store.get_watchdog_state() is None
        assert not watchdog.has_successor

    async def test_is_true_if_only_the_row_could_not_be_written(
        self, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def away(_state: WatchdogState) -> None:
            raise StoreUnavailable("away (test)")

        monkeypatch.setattr(world.store, "put_watchdog_state", away)
        assert await watchdog_of(world).arm(STALE_AFTER, world.clock.now())
        assert len(world.sweep_messages()) == 1
        assert "keep_alive.state_access.failed" in caplog.text

    async def test_is_tried_again_as_a_sweep_ends(self, world: World) -> None:
        async def repair(_operation: str, _call_id: str) -> None:
            await world.clock.sleep(31)  # the circuit breaker is open for half a minute
            world.queue.broken = False

        await world.add_call()
        world.graph.faults["call"] = repair
        world.queue.broken = True
        await world.sweep("timer")
        message = world.queue.due(world.clock.now() + HOUR)
        assert isinstance(message, Sweep)
        assert message.wake_up == "watchdog"


class TestDeadTimer:
    async def test_watchdog_sweeps_in_its_place(self, world: World) -> None:
        await world.add_call()
        await world.sweep("timer")
        await world.live(180, timer=False)
        assert not world.graph.lapsed()
        gaps = [later - earlier for earlier, later in pairwise(world.graph.calls["call"].keep_alives)]
        assert max(gaps) <= STALE_AFTER + MINUTE  # this test looks once a minute

    async def test_one_stale_shard_is_enough_to_sweep_all(self, world: World) -> None:
        await world.add_call()
        await world.sweep()
        now = world.clock.now()
        await world.advance(STALE_AFTER)
        nearly_stale = Watermark(now + MINUTE, now + MINUTE)  # it would be 39 minutes old when the watchdog comes again
        await world.store.put_watermark(shard_of("call"), nearly_stale)
        await world.drain()
        assert world.keep_alives() == [2]

    async def test_message_that_is_early_by_its_takers_clock_comes_again(self, world: World) -> None:
        await world.add_call()
        await world.sweep()
        ahead = Watermark(world.clock.now() + 4 * MINUTE, world.clock.now() + 4 * MINUTE)  # by the sweeper's clock
        for shard in range(SHARDS):
            await world.store.put_watermark(shard, ahead)
        await world.live(26, timer=False)  # 20 + 4 minutes until shards are stale; this test looks once a minute
        assert world.keep_alives() == [2]

    async def test_outage_that_queue_messages_made_good_leaves_one_too(self) -> None:
        store = BrokenStore()
        world = World(store=store)
        await world.add_calls(60)
        store.break_all()
        with pytest.raises(StoreUnavailable):
            await world.sweep("timer")
        store.repair()
        await world.live(180, timer=False)
        assert not world.graph.lapsed()

    async def test_sweep_that_died_has_a_successor(self, world: World) -> None:
        await world.add_call()
        world.graph.faults["*"] = world.slow(3600)
        dies = asyncio.ensure_future(world.keeper.sweep("timer"))
        await world.advance(MINUTE)
        dies.cancel()
        world.graph.faults.clear()
        await world.advance(STALE_AFTER)
        await world.drain()
        assert world.keep_alives() == [1]


class TestOneChain:
    async def test_does_nothing_while_the_timer_lives(self, world: World) -> None:
        await world.add_call()
        await world.live(8 * 15, timer=True)
        assert world.graph.requests["keepAlive"] == 8
        assert len(world.queue.messages) <= 2  # each comes after 20 minutes, and one is sent each 15

    @pytest.mark.parametrize("sweeps", [1, 3], ids="{} sweeps".format)
    async def test_remains_of_several_sweeps(self, world: World, sweeps: int) -> None:
        await world.add_call()
        for _ in range(sweeps):
            await world.sweep()
            await world.advance(MINUTE)
        await world.live(120, timer=False)
        assert [type(message) for _, message in world.queue.waiting()] == [Sweep]

    @pytest.mark.parametrize(
        ("wake_up", "messages"),
        [pytest.param("operator", 1, id="operators"), pytest.param("timer", 4, id="timers, for comparison")],
    )
    async def test_is_not_multiplied_by_sweeps_of_operators(self, world: World, wake_up: str, messages: int) -> None:
        for _ in range(4):
            await world.run(world.start_process().keeper.sweep(wake_up))
            await world.advance(4 * MINUTE)
        assert len(world.sweep_messages()) == messages

    @pytest.mark.parametrize(
        "swept_ago",
        [pytest.param(5 * MINUTE, id="no shard is stale"), pytest.param(25 * MINUTE, id="shards are stale")],
    )
    async def test_message_that_could_leave_no_successor_stays(self, world: World, swept_ago: timedelta) -> None:
        await world.add_call()
        await world.sweep()
        await world.advance(swept_ago)
        other = world.start_process()
        world.queue.broken = True
        message = Sweep(wake_up="watchdog", due=world.clock.now() + 2 * TICK)  # later than the one of the sweep
        with pytest.raises(StoreUnavailable):
            await world.run(other.keeper.handle(message))
