"""The purge of ended calls: when it runs, how long, and what its failure leaves alone."""

import asyncio
from datetime import datetime, timedelta

import pytest

from shared.errors import StoreUnavailable
from shared.keeping import purge
from shared.keeping.purge import Purger
from shared.keeping.renewal_pass import SweepConfig
from shared.storage.store import SHARDS
from tests.support.keeping import HOUR, MINUTE, SECOND, World


class TestRetention:
    async def test_ended_calls_are_deleted_after_it(self, world: World) -> None:
        retention = SweepConfig().retention
        await world.add_call("old")
        del world.graph.calls["old"]
        await world.sweep()
        await world.advance(retention - timedelta(days=1))
        await world.sweep()
        assert await world.store.get("old") is not None
        await world.advance(timedelta(days=2))
        await world.sweep()
        assert await world.store.get("old") is None
        assert await world.store.list_events("old") == []


class TestBatches:
    async def test_go_on_until_nothing_is_left_and_then_rest_for_an_hour(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(purge, "MAX_PURGE_BATCH", 2)
        left, asked = [2, 2, 1], 0

        async def delete(shard: int, _before: datetime, _limit: int) -> int:
            nonlocal asked
            asked += 1
            return left.pop(0) if left and shard == 3 else 0

        monkeypatch.setattr(world.store, "purge", delete)
        purger = Purger(world.store, world.clock, timedelta(days=30))
        assert await purger.purge(range(SHARDS), world.clock.now() + MINUTE) == 2 + 2 + 1
        assert asked == SHARDS + 2  # shard 3 three times, the others once
        await world.advance(HOUR - MINUTE)
        assert await purger.purge(range(SHARDS), world.clock.now() + MINUTE) == 0
        assert asked == SHARDS + 2
        await world.advance(MINUTE)
        await purger.purge(range(SHARDS), world.clock.now() + MINUTE)
        assert asked == 2 * SHARDS + 2

    @pytest.mark.parametrize(
        ("time_left", "seconds"),
        [
            pytest.param(4 * MINUTE, 30, id="for 30 s of a sweep"),
            pytest.param(20 * SECOND, 20, id="until the deadline"),
        ],
    )
    async def test_end_in_time(
        self, world: World, monkeypatch: pytest.MonkeyPatch, time_left: timedelta, seconds: int
    ) -> None:
        batch_seconds = 0.9  # no multiple of it is a deadline, which cancels the batch in progress

        async def delete(*_: object) -> int:
            await world.clock.sleep(batch_seconds)
            return purge.MAX_PURGE_BATCH

        monkeypatch.setattr(world.store, "purge", delete)
        purger = Purger(world.store, world.clock, timedelta(days=30))
        deleted = await world.run(purger.purge([3], world.clock.now() + time_left))
        assert deleted == int(seconds / batch_seconds) * purge.MAX_PURGE_BATCH

    async def test_that_hang_are_cancelled(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        async def hang(*_: object) -> int:
            await asyncio.sleep(60)
            return 1

        monkeypatch.setattr(world.store, "purge", hang)
        purger = Purger(world.store, world.clock, timedelta(days=30))
        deadline = world.clock.now() + timedelta(milliseconds=20)
        assert await asyncio.wait_for(purger.purge(range(SHARDS), deadline), 10) == 0


class TestFailure:
    async def test_is_not_reported_as_a_shard_that_was_not_swept(
        self, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The purge can wait, so the alert on shards that are not swept must not fire."""

        async def fail(*_: object) -> int:
            raise StoreUnavailable("Table Storage does not answer (test).")

        monkeypatch.setattr(world.store, "purge", fail)
        stats = await world.run(world.keeper.sweep("timer"))
        assert (stats.skipped, stats.failed) == (0, 0)
        assert caplog.text.count("keep_alive.purge.failed") == SHARDS
        assert "keep_alive.shard.failed" not in caplog.text


class TestOutbox:
    @pytest.mark.parametrize(("spent", "expected"), [(0, 1), (1, 0)], ids=["time is left", "all is spent"])
    async def test_is_looked_at_until_the_sweep_must_end(
        self, world: World, monkeypatch: pytest.MonkeyPatch, spent: int, expected: int
    ) -> None:
        looked: list[datetime | None] = []

        class Care:
            async def run(self, *, deletes_old: bool, until: datetime | None) -> None:
                assert deletes_old
                looked.append(until)

        async def purge(_: object, deadline: datetime) -> int:
            await world.clock.sleep(spent * (deadline - world.clock.now()).total_seconds())
            return 0

        monkeypatch.setattr(world.keeper, "_outbox_care", Care())
        monkeypatch.setattr(world.keeper._purger, "purge", purge)
        began = world.clock.now()
        await world.run(world.keeper.sweep("timer", budget=timedelta(minutes=1)))
        assert looked == [began + timedelta(minutes=1)] * expected
