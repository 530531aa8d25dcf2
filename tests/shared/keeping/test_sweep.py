"""The sweep of all shards: what it renews, in which order, how concurrently, and what failures it survives."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from shared.domain.calls import Status, TerminationSource
from shared.domain.leases import Lease, Progress, Timing, WatchdogState, Watermark
from shared.errors import GraphForbidden, GraphUnavailable, StoreUnavailable
from shared.graph.rate_limit import RateLimiter
from shared.keeping import shard_sweep
from shared.keeping.renewal_pass import SweepConfig
from shared.storage.memory_table import MemoryTable
from shared.storage.store import SHARDS, Stored, shard_of
from shared.storage.wakeup_queue import Renew, Sweep, SweepShard
from tests.support.keeping import (
    HOUR,
    MINUTE,
    OTHER,
    SECOND,
    TENANT,
    TICK,
    BrokenStore,
    ReadOnlyStore,
    World,
    unavailable,
)
from tests.support.stores import some_ids
from tests.support.virtual import refuse, settle

FUNCTION_TIMEOUT = 5 * MINUTE  # host.json: functionTimeout
MAX_HTTP_TIME = 230 * SECOND  # Azure's load balancer cuts an HTTP request after that
SEND_TIMEOUT = 10 * SECOND  # an outage's request to table or queue, see `wakeup_queue.SEND_TIMEOUT`


class TestRenewal:
    async def test_renews_every_call_and_writes_nothing_for_healthy_ones(self, world: World) -> None:
        ids = await world.add_calls(50)
        before = [await world.store.get(call_id) for call_id in ids]
        await world.sweep()
        assert world.keep_alives() == [1] * 50
        assert [await world.store.get(call_id) for call_id in ids] == before

    async def test_watermark_proves_the_renewal_of_earlier_calls(self, world: World) -> None:
        await world.add_call()
        started = world.clock.now()
        await world.sweep()
        watermark, lease = await world.watermark(), (await world.read()).lease
        assert lease.last_renewal(watermark, Timing()) == started
        assert lease.expires_at(watermark, Timing()) == started + Timing().lease

    @pytest.mark.parametrize(
        ("age", "is_proved"),
        [
            pytest.param(5 * MINUTE - SECOND, False, id="less than 5 minutes before the sweep"),
            pytest.param(5 * MINUTE, True, id="5 minutes before the sweep"),
        ],
    )
    async def test_watermark_proves_nothing_of_calls_registered_shortly_before(
        self, world: World, age: timedelta, *, is_proved: bool
    ) -> None:
        assert Timing().watermark_blind_window == 5 * MINUTE
        await world.add_call(age=age)
        await world.sweep()
        watermark, lease = await world.watermark(), (await world.read()).lease
        proved = watermark.sweep_started_at if is_proved else lease.started_at
        assert lease.last_renewal(watermark, Timing()) == proved

    async def test_fresh_shards_are_left_alone_unless_an_operator_asks(self, world: World) -> None:
        await world.add_call()
        await world.sweep()
        await world.tick()
        assert world.keep_alives() == [1]
        await world.sweep("operator")
        assert world.keep_alives() == [2]

    async def test_watermarks_of_the_future_are_not_believed(self, world: World) -> None:
        ids = await world.add_calls(2 * SHARDS)
        ahead = world.clock.now() + 3 * HOUR
        for shard in range(SHARDS):
            await world.store.put_watermark(shard, Watermark(ahead, ahead))
        await world.store.put_watchdog_state(WatchdogState(ahead, ahead))
        await world.run(world.keeper.handle(Sweep(wake_up="request")))
        assert world.keep_alives() == [1] * 2 * SHARDS
        now, renewed = world.clock.now(), sum(shard_of(call_id) == 5 for call_id in ids)
        assert await world.store.get_watermark(5) == Watermark(now, now, renewed)

    async def test_two_sweeps_at_once_renew_twice_at_worst(self, world: World) -> None:
        await world.add_calls(30, age=20 * MINUTE)
        del world.graph.calls["call-7"]
        await world.run(asyncio.gather(world.keeper.sweep("timer"), world.keeper.sweep("operator")))
        assert set(world.keep_alives()) <= {1, 2}
        assert (await world.read("call-7")).status is Status.ENDED

    @pytest.mark.parametrize("keep_alives", [0, 3, 6, 9], ids="died after {} of 10 keepAlives".format)
    async def test_next_sweep_makes_good_for_one_that_died(self, keep_alives: int) -> None:
        world = World(SweepConfig(concurrency=1))
        await world.add_calls(10, age=20 * MINUTE)
        task: asyncio.Task[object]
        seen = 0

        async def die(_operation: str, _call_id: str) -> None:
            nonlocal seen
            if seen == keep_alives:
                task.cancel()
                await asyncio.sleep(0)
            seen += 1

        world.graph.faults["*"] = die
        task = asyncio.ensure_future(world.keeper.sweep("timer"))
        await asyncio.wait([task])
        world.graph.faults.clear()
        await world.advance(TICK)
        await world.sweep("timer")
        assert not world.graph.lapsed()
        assert all(world.keep_alives())

    async def test_reports_the_smallest_margin(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        await world.add_call("tight", age=40 * MINUTE)  # 45 - 40 = 5 minutes are left of its lease
        await world.add_call("loose", age=5 * MINUTE)
        await world.sweep()
        [line] = [record.message for record in caplog.records if "keep_alive.sweep.finished" in record.message]
        assert "smallestMarginMinutes=5.0" in line
        assert "renewed=2" in line


class TestEnd:
    async def test_ends_a_call_that_graph_does_not_know(self, world: World) -> None:
        await world.add_call()
        del world.graph.calls["call"]
        await world.sweep()
        call = await world.read()
        assert call.status is Status.ENDED
        assert call.termination is not None
        assert call.termination.source is TerminationSource.KEEP_ALIVE_NOT_FOUND
        assert (call.termination.code, call.termination.subcode) == (None, None)
        assert call.ended_at == world.clock.now()


class TestOrder:
    async def test_earliest_deadline_first(self) -> None:
        world = World(SweepConfig(concurrency=1))
        order: list[str] = []

        async def note(_operation: str, call_id: str) -> None:
            order.append(call_id)

        ids = some_ids(3, 12)
        for minutes, call_id in enumerate(ids, 5):
            await world.add_call(call_id, age=minutes * MINUTE)
        world.graph.faults["*"] = note
        await world.sweep()
        assert order == ids[::-1]

    async def test_stays_the_same_from_sweep_to_sweep(self) -> None:
        """A sweep may take several ticks: a call that is first in one and last in the next waits for three of them."""
        world = World(SweepConfig(concurrency=1))
        world.graph.faults["*"] = world.slow(1)
        ids = some_ids(5, 12)[::-1]  # by their ids alone the order would be another
        for minute, call_id in enumerate(ids):
            await world.add_call(call_id, age=(30 - minute) * MINUTE)
        for _ in range(3):
            await world.advance(10 * MINUTE)
            await world.sweep()
        orders = [sorted(ids, key=lambda call_id: world.graph.calls[call_id].keep_alives[sweep]) for sweep in range(3)]
        assert orders == [ids, ids, ids]

    @pytest.mark.parametrize(
        "before",
        [
            pytest.param(-MINUTE, id="a minute after the sweep"),
            pytest.param(2.5 * MINUTE, id="2.5 minutes before the sweep"),
            pytest.param(6 * MINUTE, id="6 minutes before the sweep"),
        ],
    )
    def test_call_that_came_about_the_time_of_a_sweep_stays_behind_older_ones(self, before: timedelta) -> None:
        swept_at = datetime(2026, 3, 2, tzinfo=UTC)
        began = {"b": swept_at - HOUR, "a": swept_at - before}
        old, new = (Lease(name, TENANT, at, at) for name, at in began.items())
        for later in (timedelta(), 30 * MINUTE):
            watermark = Watermark(swept_at + later, swept_at + later)
            assert old.sweep_position(watermark, Timing()) < new.sweep_position(watermark, Timing())

    def test_call_that_was_not_renewed_for_long_goes_first_however_late_it_came(self) -> None:
        swept_at = datetime(2026, 3, 2, tzinfo=UTC)
        swept = Lease("a", TENANT, swept_at - HOUR, swept_at - HOUR)
        late = Lease("b", TENANT, swept_at, swept_at - 10 * MINUTE)
        watermark = Watermark(swept_at, swept_at)
        assert late.sweep_position(watermark, Timing()) < swept.sweep_position(watermark, Timing())

    async def test_sweeps_begin_with_another_shard_each_time(self, world: World) -> None:
        first: list[int] = []

        async def note(_operation: str, call_id: str) -> None:
            shards.append(shard_of(call_id))

        await world.add_calls(60, age=timedelta())
        world.graph.faults["*"] = note
        for _ in range(SHARDS):
            shards: list[int] = []
            await world.sweep()
            first.append(shards[0])
            await world.advance(TICK)
        assert sorted(first) == list(range(SHARDS))

    async def test_shards_that_were_left_out_come_first_in_the_next_sweep(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shard_sweep, "MAX_LEASES_IN_MEMORY", 1)
        world = World(SweepConfig(concurrency=1, budget=10 * SECOND))
        await world.add_calls(80, age=MINUTE)
        world.graph.faults["*"] = world.slow(1)
        world.queue.broken = True
        for _ in range(10):  # 10 sweeps of 10 s at 1 s a call: 100 keepAlives for 80 calls
            await world.tick()
            await world.advance(4 * MINUTE)
        assert all(world.keep_alives())


class TestSlots:
    async def test_never_more_requests_in_flight_than_allowed(self) -> None:
        world = World(SweepConfig(concurrency=5))
        await world.add_calls(300)
        world.graph.faults["*"] = world.slow(1)
        await world.sweep()
        assert world.graph.most_in_flight == 5

    async def test_sweeps_at_once_share_the_slots_and_end_in_time(self) -> None:
        config = SweepConfig(concurrency=8)
        world = World(config)
        await world.add_calls(
            1500
        )  # at 5 s each, 8 at once, they take 1500 * 5 / 8 = 938 s: not in the budget of 240 s
        world.graph.faults["*"] = world.slow(5)
        began = world.clock.now()
        sweeps = [world.keeper.handle(SweepShard(shard=shard)) for shard in range(SHARDS)]
        await world.run(asyncio.gather(*sweeps))
        assert world.clock.now() - began <= config.budget + 5 * SECOND  # the budget, and the last answer
        assert world.graph.most_in_flight == 8

    async def test_renewal_outside_of_sweeps_does_not_wait_for_their_slots(self) -> None:
        world = World(SweepConfig(concurrency=2))
        for call_id in await world.add_calls(20):
            world.graph.faults[call_id] = world.slow(10)
        sweeping = asyncio.create_task(world.keeper.sweep("operator"))
        await settle()
        await world.add_call("registered", age=40 * MINUTE)
        renewing = asyncio.create_task(world.keeper.handle(Renew(call_id="registered")))
        await settle()
        assert renewing.done()
        assert not sweeping.done()
        await world.run(sweeping)

    async def test_slow_tenant_leaves_slots_for_others(self) -> None:
        world = World(SweepConfig(concurrency=8))
        done: dict[str, datetime] = {}

        async def answer(_operation: str, call_id: str) -> None:
            await world.clock.sleep(9 if call_id in slow else 0.2)
            done[call_id] = world.clock.now()

        slow = await world.add_calls(160, prefix="slow", tenant=OTHER, age=20 * MINUTE)
        quick = await world.add_calls(160, prefix="quick")
        world.graph.faults["*"] = answer
        began = world.clock.now()
        await world.sweep()
        assert all(world.keep_alives())
        # 6 of 8 slots are the slow tenant's: 160 * 9 / 6 = 240 s. The others need 160 * 0.2 / 2 = 16 s.
        assert max(done[call_id] - began for call_id in quick) < max(done[call_id] - began for call_id in slow) / 2

    async def test_tenant_that_hangs_does_not_hold_up_others(self) -> None:
        world = World(SweepConfig(concurrency=8))
        await world.add_calls(2000, prefix="slow", age=11 * MINUTE)
        quick = await world.add_calls(200, prefix="quick", tenant=OTHER)
        world.graph.faults[TENANT] = world.time_out(10)
        began = world.clock.now()
        await world.sweep()
        # After 32 time-outs its calls wait: 32 / 6 slots * 10 s = 60 s. Without that: 2000 / 6 * 10 s = 56 minutes.
        assert world.clock.now() - began < 2 * MINUTE
        assert all(world.keep_alives(*quick))

    @pytest.mark.parametrize(
        ("max_leases", "max_shards"),
        [
            pytest.param(8_000, SHARDS, id="small shards concurrently"),
            pytest.param(30, 4, id="large shards one after the other"),
        ],
    )
    async def test_reads_shards_while_few_leases_are_in_memory(
        self, max_leases: int, max_shards: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shard_sweep, "MAX_LEASES_IN_MEMORY", max_leases)
        world = World(SweepConfig(concurrency=64))
        in_flight: Counter[int] = Counter()
        shards_at_once: list[int] = []

        async def slow(_operation: str, call_id: str) -> None:
            in_flight[shard_of(call_id)] += 1
            shards_at_once.append(len(+in_flight))
            await world.clock.sleep(1)
            in_flight[shard_of(call_id)] -= 1

        await world.add_calls(640)  # about 40 a shard
        world.graph.faults["*"] = slow
        await world.sweep()
        assert max(shards_at_once) <= max_shards
        assert all(world.keep_alives())

    async def test_requests_of_sweeps_let_others_go_first_at_the_rate_limit(self, world: World) -> None:
        limiter = RateLimiter(1000)
        waits_for_others: dict[tuple[str, str], bool] = {}

        async def note(operation: str, call_id: str) -> None:
            before = limiter._sweeps.outstanding
            async with limiter.permit():
                waits_for_others[operation, call_id] = limiter._sweeps.outstanding > before
            if call_id == "lapsing":
                raise GraphUnavailable("away")

        await world.add_call("lapsing", age=50 * MINUTE)  # longer without a renewal than a lease: it is looked up
        await world.add_call("well")
        await world.add_call("registered", age=40 * MINUTE)
        world.graph.faults["*"] = note
        await world.sweep()
        assert waits_for_others == {
            ("keepAlive", "lapsing"): True,
            ("get", "lapsing"): True,
            ("keepAlive", "well"): True,
            ("keepAlive", "registered"): True,
        }
        waits_for_others.clear()
        await world.keeper.handle(Renew(call_id="registered"))
        assert waits_for_others == {("keepAlive", "registered"): False}

    async def test_calls_that_are_always_refused_do_not_starve_others_of_their_tenant(self, world: World) -> None:
        for call_id in await world.add_calls(200, prefix="bad", age=12 * MINUTE):
            world.graph.calls[call_id].expires_at += timedelta(days=1)
            world.graph.faults[call_id] = refuse(GraphForbidden("7507", status=403, subcode=7507))
        good = await world.add_calls(5, prefix="good")
        await world.live(100, timer=True)
        assert not world.graph.lapsed()
        assert min(world.keep_alives(*good)) >= 6  # ticks at 0, 15, … 90 minutes: 7, and one may come late


class TestStoreFailures:
    async def test_call_that_could_not_be_written_is_excepted_and_retried(self) -> None:
        store = BrokenStore()
        world = World(store=store)
        failed, *others = await world.calls_in_shard(7, 12)
        world.graph.faults[failed] = unavailable(times=1)
        store.refuses_commits = True
        await world.sweep()
        assert set(world.keep_alives(*others)) == {1}
        watermark, lease = await world.watermark(failed), (await world.read(failed)).lease
        assert watermark.unwritten == {failed}
        assert lease.last_renewal(watermark, Timing()) == lease.started_at

        store.repair()
        await world.advance(MINUTE)
        await world.drain()
        assert set(world.keep_alives()) == {1}

    async def test_shard_with_many_unwritten_calls_is_swept_again(self) -> None:
        store = BrokenStore()
        world = World(store=store)
        ids = await world.calls_in_shard(7, 60)
        world.graph.faults["*"] = unavailable(times=shard_sweep.MAX_UNWRITTEN + 5)
        store.refuses_commits = True
        await world.sweep()
        assert await store.get_watermark(7) is None
        store.repair()
        await world.live(15, timer=False)
        assert await store.get_watermark(7) is not None
        assert all(world.keep_alives(*ids))

    async def test_call_that_can_never_be_written_does_not_set_off_a_storm(self) -> None:
        store = BrokenStore()
        world = World(store=store)
        ids = await world.calls_in_shard(7, 6)
        del world.graph.calls[ids[0]]  # its end must be written, and cannot be
        store.refuses_commits = True
        asked = []
        for _ in range(6):
            before = world.graph.requests["keepAlive"]
            await world.live(60, timer=True)
            asked.append(world.graph.requests["keepAlive"] - before)
        assert len(world.queue.messages) < 60  # one for each minute of an hour would be a message that leaves another
        assert asked[-1] < 4 * len(ids) + 60 + 20  # 4 sweeps an hour, a retry of one call each minute, 20 to spare
        assert not world.graph.lapsed()

    async def test_shard_that_cannot_be_read_is_swept_again(self) -> None:
        store = BrokenStore()
        world = World(store=store)
        await world.add_calls(4 * SHARDS)
        store.unreadable_shards = {0}
        await world.sweep()
        missed = [call_id for call_id, call in world.graph.calls.items() if not call.keep_alives]
        assert {shard_of(call_id) for call_id in missed} == {0}
        store.repair()
        await world.advance(MINUTE)
        await world.drain()
        assert all(world.keep_alives())

    async def test_watermark_that_cannot_be_read_stops_neither_timer_nor_watchdog(self) -> None:
        store = BrokenStore()
        world = World(store=store)
        await world.add_calls(4 * SHARDS)
        store.unreadable_shards = {3}
        await world.sweep("timer")
        kept = [call_id for call_id, call in world.graph.calls.items() if call.keep_alives]
        assert {shard_of(call_id) for call_id in kept} == set(range(SHARDS)) - {3}
        await world.advance(Timing().sweep_stale_after + MINUTE)
        await world.drain()
        assert set(world.keep_alives(*kept)) == {2}

    async def test_sweep_that_reaches_no_shard_fails_so_that_the_host_sees_it(self) -> None:
        store = BrokenStore()
        world = World(store=store)
        store.break_all()
        with pytest.raises(StoreUnavailable):
            await world.sweep()

    async def test_refused_writes_do_not_multiply_messages(self) -> None:
        store = ReadOnlyStore(MemoryTable())
        world = World(store=store)
        await world.add_calls(2 * SHARDS)
        store.read_only = True
        for minute in range(180):
            if minute % 15 == 0:
                with suppress(StoreUnavailable):
                    await world.tick()
            await world.drain(world.clock.now())  # handling one may take minutes, and the next be due by then
            await world.advance(MINUTE)
        # For each of 16 shards and 32 calls a few: 150,000 when each failure left a message of its own.
        assert len(world.queue.messages) < 10 * (SHARDS + 2 * SHARDS)
        assert not world.graph.lapsed()

    async def test_ends_within_the_hosts_limits_while_table_and_queue_hang(self) -> None:
        """Each request to them fails after 10 s: the budget must leave time for those that follow it."""
        store = BrokenStore()
        world = World(store=store)

        async def hang(*_: object) -> None:
            await world.clock.sleep(SEND_TIMEOUT.total_seconds())
            raise StoreUnavailable("no answer (test)")

        store.get_watermark = store.put_watermark = hang  # type: ignore[method-assign, assignment] # they hang
        store.put_watchdog_state = world.queue.send = hang  # type: ignore[method-assign, assignment] # as above
        began = world.clock.now()
        with pytest.raises(StoreUnavailable):
            await world.sweep("timer")
        assert world.clock.now() - began < FUNCTION_TIMEOUT - 15 * SECOND
        began = world.clock.now()
        with pytest.raises(StoreUnavailable):
            await world.run(world.keeper.sweep("operator", budget=3 * MINUTE))
        assert world.clock.now() - began < MAX_HTTP_TIME

    async def test_shard_whose_pages_are_too_slow_is_given_up_and_swept_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shard_sweep, "CANCEL_GRACE", timedelta(milliseconds=50))
        world = World(SweepConfig(budget=timedelta(milliseconds=50)))
        scan = world.store.scan

        async def slow(shard: int) -> AsyncGenerator[Progress | Stored[Watermark] | Lease]:
            if shard == 5:
                await asyncio.sleep(60)
            async for record in scan(shard):
                yield record

        monkeypatch.setattr(world.store, "scan", slow)
        stats = await asyncio.wait_for(world.keeper.sweep("timer"), 10)
        assert stats.failed == 1
        assert SweepShard(shard=5) in world.shard_messages()
