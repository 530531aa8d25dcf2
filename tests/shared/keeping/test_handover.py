"""The hand-over: the rest of a shard when its time is over, and whole shards above a threshold."""

import asyncio
from datetime import timedelta

import pytest

from shared.domain.leases import Progress
from shared.errors import GraphThrottled
from shared.keeping.renewal_pass import CANCEL_GRACE, WRITE_GRACE, SweepConfig
from shared.storage.changes import Committed
from shared.storage.store import SHARDS, Change, shard_of
from shared.storage.wakeup_queue import WakeUp
from tests.support.keeping import HOUR, MINUTE, OTHER, SECOND, TENANT, TICK, World
from tests.support.stores import some_ids
from tests.support.virtual import refuse


class TestRestOfAShard:
    async def test_goes_to_the_queue_and_only_its_end_writes_the_watermark(self) -> None:
        world = World(SweepConfig(concurrency=2, budget=10 * SECOND))
        await world.calls_in_shard(5, 45)
        world.graph.faults["*"] = world.slow(1)
        began = world.clock.now()
        await world.sweep()
        assert await world.store.get_watermark(5) is None
        assert sum(world.keep_alives()) == 20  # 10 s at 1 s each, 2 at once

        await world.drain()
        watermark = await world.store.get_watermark(5)
        assert watermark is not None
        assert watermark.sweep_started_at == began
        assert watermark.renewed == 45
        assert world.keep_alives() == [1] * 45

    async def test_of_a_slow_tenant_is_done_later(self) -> None:
        world = World(SweepConfig(concurrency=4, budget=20 * SECOND))
        ids = some_ids(5, 30)
        for call_id in ids:
            await world.add_call(call_id, tenant=OTHER if call_id in ids[::2] else TENANT)
        world.graph.faults |= {OTHER: world.slow(9), TENANT: world.slow(0.2)}
        began = world.clock.now()
        await world.sweep()  # the slow tenant's 15 calls take 15 * 9 / 3 slots = 45 s, and the budget is 20 s
        assert await world.store.get_watermark(5) is None
        assert all(world.keep_alives(*ids[1::2]))

        for _ in range(3):
            await world.drain()
        watermark = await world.store.get_watermark(5)
        assert watermark is not None
        assert watermark.sweep_started_at == began
        assert all(world.keep_alives())

    async def test_of_half_an_hour_leaves_no_call_out(self) -> None:
        world = World(SweepConfig(concurrency=1))
        await world.calls_in_shard(5, 44)  # 44 * 30 s = 22 minutes
        world.graph.faults["*"] = world.slow(30)
        await world.live(30, timer=True)
        assert all(world.keep_alives())

    async def test_that_hangs_beyond_the_budget_is_cancelled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shared.keeping.renewal_pass.CANCEL_GRACE", timedelta(milliseconds=50))
        world = World(SweepConfig(concurrency=4, budget=timedelta(milliseconds=50)))
        ids = await world.calls_in_shard(5, 6)

        async def hang(*_: str) -> None:
            await asyncio.sleep(60)

        world.graph.faults[ids[1]] = hang
        stats = await asyncio.wait_for(world.keeper.sweep("timer"), 10)
        assert (stats.renewed, stats.handed_over) == (len(ids) - 1, 1)
        assert await world.store.get_watermark(5) is None

        del world.graph.faults[ids[1]]
        await world.drain()
        assert world.keep_alives(ids[1]) == [1]
        assert await world.store.get_watermark(5) is not None

    async def test_that_was_deferred_is_written_in_time_or_handed_over(self) -> None:
        config = SweepConfig(budget=20 * SECOND)
        world = World(config)
        await world.calls_in_shard(5, 1_250)  # 1,250 writes of 1 s, 32 at once: 39 s
        world.graph.faults[TENANT] = refuse(GraphThrottled("429", status=429, retry_after=60))
        commit = world.store.commit

        async def slow(change: Change) -> Committed:
            await world.clock.sleep(1)
            return await commit(change)

        world.store.commit = slow  # type: ignore[method-assign] # storage is slow
        began = world.clock.now()
        await world.sweep("timer")
        assert world.clock.now() - began < config.budget + WRITE_GRACE + 5 * SECOND
        assert WRITE_GRACE + 5 * SECOND < CANCEL_GRACE
        assert await world.store.get_watermark(5) is None
        for _ in range(12):
            await world.drain()
            await world.advance(MINUTE)
        assert await world.store.get_watermark(5) is not None


class TestPosition:
    async def test_next_tick_goes_on_there_without_the_queue(self) -> None:
        world = World(SweepConfig(concurrency=2, budget=10 * SECOND))
        await world.calls_in_shard(5, 35)  # two sweeps of 10 s, 2 at once: 40
        world.graph.faults["*"] = world.slow(1)
        world.queue.broken = True
        for _ in range(2):
            await world.tick()
            await world.advance(TICK)
        assert all(world.keep_alives())

    @pytest.mark.parametrize(
        ("minutes", "goes_on"),
        [pytest.param(29, True, id="29 minutes old"), pytest.param(31, False, id="31 minutes old")],
    )
    async def test_counts_for_half_an_hour(self, world: World, minutes: int, *, goes_on: bool) -> None:
        await world.add_call()
        began, last = world.clock.now() - minutes * MINUTE, world.clock.now() + HOUR
        progress = Progress(began, base_watermark_at=None, cursor=(last, last, "~"), renewed=1)
        await world.store.put_progress(shard_of("call"), progress)
        await world.tick()
        assert (await world.watermark()).sweep_started_at == (began if goes_on else world.clock.now())
        assert world.keep_alives() == [0 if goes_on else 1]

    async def test_operator_does_not_set_back_a_later_position(self) -> None:
        world = World(SweepConfig(concurrency=1, budget=20 * SECOND))
        await world.calls_in_shard(5, 35)  # two sweeps of 20 s, 1 at once: 40
        world.graph.faults["*"] = world.slow(1)
        world.queue.broken = True
        await world.tick()
        await world.run(world.keeper.sweep("operator", budget=5 * SECOND))
        await world.advance(TICK)
        await world.tick()
        assert all(world.keep_alives())


class TestFanOut:
    async def test_above_a_threshold_each_shard_gets_a_message(self) -> None:
        world = World(SweepConfig(fan_out_threshold=10))
        await world.add_calls(30)
        await world.sweep("timer")  # the number of calls is not known yet
        await world.advance(TICK)
        world.queue.messages.clear()
        await world.sweep("timer")
        assert world.graph.requests["keepAlive"] == 30
        assert len(world.shard_messages()) == SHARDS
        await world.drain()
        assert world.graph.requests["keepAlive"] == 60

    async def test_timer_sweeps_itself_while_the_queue_is_away(self) -> None:
        world = World(SweepConfig(fan_out_threshold=10))
        await world.add_calls(30)
        await world.sweep("timer")
        world.queue.broken = True
        for _ in range(5):
            await world.advance(TICK)
            await world.sweep("timer")
        assert not world.graph.lapsed()

    async def test_timer_alone_keeps_a_large_fleet_while_the_queue_is_stalled(self) -> None:
        world = World(SweepConfig(fan_out_threshold=10))
        await world.add_calls(60)
        ticks = 12  # of three hours
        for _ in range(ticks):
            await world.sweep("timer")
            await world.advance(TICK)
        assert not world.graph.lapsed()
        # Every second tick finds the shards stale, sweeps them and sends no message for them; a watchdog each tick.
        assert len(world.queue.messages) <= ticks * SHARDS / 2 + ticks

    async def test_watchdog_still_has_a_successor(self) -> None:
        world = World(SweepConfig(fan_out_threshold=10))
        await world.add_calls(60)
        await world.live(16, timer=True)
        await world.live(180, timer=False)
        assert not world.graph.lapsed()

    async def test_shards_whose_turn_is_too_late_are_sent_concurrently(self) -> None:
        """The queue is slow: sixteen shards must not wait for it one after the other."""
        world = World(SweepConfig(budget=timedelta()))
        send, in_flight, most = world.queue.send, 0, 0

        async def slow(message: WakeUp, delay: timedelta = timedelta()) -> None:
            nonlocal in_flight, most
            in_flight += 1
            most = max(most, in_flight)
            await world.clock.sleep(9)
            in_flight -= 1
            await send(message, delay)

        world.queue.send = slow  # type: ignore[method-assign] # slow
        stats = await world.run(world.keeper.sweep("timer"))
        assert (stats.handed_over, most) == (SHARDS, SHARDS)
