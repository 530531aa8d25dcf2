"""The check by requests: it queues a sweep if a shard is stale, and sweeps itself if the queue is stalled too."""

import asyncio

import pytest

from shared.domain.leases import WatchdogState, Watermark
from shared.errors import StoreUnavailable
from shared.keeping.renewal_pass import SweepConfig
from shared.storage.store import SHARDS
from shared.storage.wakeup_queue import Sweep
from tests.support.keeping import MINUTE, SECOND, World


async def check(world: World, minutes: int) -> None:
    """A request comes once a minute."""
    for _ in range(minutes):
        await world.process.staleness_check.run()
        await world.advance(MINUTE)


class TestStaleShard:
    async def test_queues_a_sweep_at_most_once_a_minute(self, world: World) -> None:
        await world.add_call()
        await world.process.staleness_check.run()
        await world.process.staleness_check.run()
        assert world.sweep_messages() == [Sweep(wake_up="request")]
        await world.drain()
        assert world.keep_alives() == [1]

        await world.advance(2 * MINUTE)
        world.queue.messages.clear()
        await world.process.staleness_check.run()
        assert not world.queue.messages

    async def test_does_not_pile_up_sweeps_while_one_is_under_way(self) -> None:
        world = World(SweepConfig(concurrency=1))
        await world.add_calls(40)  # 40 * 5 s = 200 s
        world.graph.faults["*"] = world.slow(5)
        under_way = asyncio.ensure_future(world.keeper.sweep("request"))
        await world.advance(MINUTE)
        for _ in range(3):
            await world.run(world.keeper.handle(Sweep(wake_up="request")))
        await world.run(under_way)
        assert world.graph.requests["keepAlive"] == 40

    async def test_is_heard_again_after_a_sweep_that_died(self, world: World) -> None:
        await world.add_call()
        world.graph.faults["*"] = world.slow(3600)
        dies = asyncio.ensure_future(world.keeper.sweep("timer"))
        await world.advance(MINUTE)
        dies.cancel()
        world.graph.faults.clear()
        await world.advance(5 * MINUTE)  # functionTimeout: no sweep takes longer
        await world.run(world.keeper.handle(Sweep(wake_up="request")))
        assert world.keep_alives() == [1]


class TestStalledQueue:
    @pytest.mark.parametrize(
        ("first_age", "other_age", "checks"),
        [
            pytest.param(26, 15, 1, id="stale for 6 minutes by a watermark"),
            pytest.param(None, None, 6, id="never swept, and stale at each check for 5 minutes"),
        ],
    )
    async def test_makes_the_process_sweep(self, first_age: int | None, other_age: int | None, checks: int) -> None:
        world = World(SweepConfig(fan_out_threshold=0))
        await world.add_calls(100, age=30 * MINUTE)
        if first_age and other_age:
            for shard in range(SHARDS):
                swept_at = world.clock.now() - (other_age if shard else first_age) * MINUTE
                await world.store.put_watermark(shard, Watermark(swept_at, swept_at, renewed=6))
        await check(world, checks)
        assert set(world.keep_alives()) == {1}
        assert not world.shard_messages()

    async def test_makes_one_process_sweep_and_no_other(self, world: World) -> None:
        await world.add_calls(100)
        processes = [world.process, *(world.start_process() for _ in range(3))]
        world.graph.faults["*"] = world.slow(90)
        world.queue.broken = True
        for _ in range(9):  # 4 processes, 10 s each: 6 minutes
            for process in processes:
                await process.staleness_check.run()
                await world.advance(10 * SECOND)
        assert world.graph.requests["keepAlive"] == SweepConfig().concurrency

    async def test_is_logged_if_the_process_cannot_sweep_and_the_next_request_tries_again(
        self, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def away() -> WatchdogState | None:
            raise StoreUnavailable("away (test)")

        await world.add_call()
        with monkeypatch.context() as patch:
            patch.setattr(world.store, "get_watchdog_state", away)
            await check(world, 6)
        assert not world.graph.requests
        assert "keep_alive.state_access.failed" in caplog.text
        await check(world, 1)
        assert world.keep_alives() == [1]


class TestResponse:
    async def test_does_not_fail_with_a_damaged_row(
        self, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def damaged(_shard: int) -> Watermark | None:
            raise ValueError("a damaged row (test)")

        monkeypatch.setattr(world.store, "get_watermark", damaged)
        await world.process.staleness_check.run()
        assert "keep_alive.state_access.failed" in caplog.text

    async def test_waits_two_seconds_at_most(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        async def hang(_shard: int) -> Watermark | None:
            await asyncio.sleep(60)
            return None

        monkeypatch.setattr("shared.keeping.staleness.MAX_CHECK_TIME", SECOND / 20)
        monkeypatch.setattr(world.store, "get_watermark", hang)
        await asyncio.wait_for(world.process.staleness_check.run(), 10)
