"""What a sweep does, in virtual time, on the memory store."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.domain.calls import Call, Status, TerminationSource
from shared.domain.leases import Lease, Progress, TenantApp, Timing, WatchdogState, Watermark
from shared.errors import (
    GraphForbidden,
    GraphRejected,
    GraphThrottled,
    GraphUnavailable,
    StoreUnavailable,
    TokenUnavailable,
)
from shared.graph.client import GraphCall
from shared.graph.rate_limit import RateLimiter
from shared.keeping import shard_sweep as shard_module
from shared.keeping.keeper import Keeper
from shared.keeping.renewal_pass import SweepConfig
from shared.keeping.renewer import Renewer
from shared.storage.memory_table import MemoryTable
from shared.storage.store import SHARDS, CallStore, Change, Stored, shard_of
from shared.storage.wakeup_queue import Renew, Sweep, SweepShard, WakeUp
from tests.support.virtual import VirtualClock, VirtualGraph, VirtualQueue, settle

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
TENANT = "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"
OTHER = "c4d8a1e2-6f3b-4b7a-8d90-5e1f2a3b4c5d"


@dataclass
class World:
    clock: VirtualClock
    store: CallStore
    queue: VirtualQueue
    graph: VirtualGraph
    keeper: Keeper

    async def call(
        self,
        call_id: str,
        *,
        tenant: str = TENANT,
        app: str | None = None,
        age: timedelta = timedelta(),
        known: bool = True,
    ) -> None:
        """A call that began `age` ago, and was made known then."""
        now = self.clock.now()
        self.graph.start(call_id, age=age)
        if known:
            began = now - age
            call = Call(call_id, tenant, "established", began, began, registered_at=began, app_id=app)
            await self.store.commit(Change(None, call))

    async def record(self, call_id: str) -> Call:
        stored = await self.store.get(call_id)
        assert stored is not None
        return stored.value

    async def sweep(self, wake_up: str = "operator") -> object:
        return await self.clock.run(self.keeper.sweep(wake_up))

    async def drain(self, by: datetime | None = None) -> None:
        while message := self.queue.due(by):
            await self.clock.run(self.keeper.handle(message))


def make_world(plan: SweepConfig | None = None) -> World:
    clock = VirtualClock()
    store = CallStore(MemoryTable())
    queue, graph = VirtualQueue(clock), VirtualGraph(clock)
    plan = plan or SweepConfig()
    renewer = Renewer(store, graph, queue, clock, plan.timing, concurrency=plan.concurrency)
    return World(clock, store, queue, graph, Keeper(store, renewer, clock, plan))


@pytest.fixture
def world() -> World:
    return make_world()


def raising(error: Exception, times: int | None = None) -> Callable[[str, str], Awaitable[None]]:
    left = times

    async def fault(_operation: str, _call_id: str) -> None:
        nonlocal left
        if left is None or left > 0:
            left = None if left is None else left - 1
            raise error

    return fault


async def test_a_sweep_renews_every_call_and_writes_nothing_for_the_healthy(world: World) -> None:
    for number in range(50):
        await world.call(f"call-{number}", age=10 * MINUTE)
    before = {f"call-{number}": await world.store.get(f"call-{number}") for number in range(50)}

    await world.sweep()

    assert all(len(call.keep_alives) == 1 for call in world.graph.calls.values())
    assert {call_id: await world.store.get(call_id) for call_id in before} == before


async def test_the_watermark_proves_the_renewal_of_calls_that_were_there_before_it(world: World) -> None:
    await world.call("old", age=10 * MINUTE)
    started = world.clock.now()
    await world.sweep()

    watermark = await world.store.get_watermark(shard_of("old"))
    assert watermark is not None
    lease = (await world.record("old")).lease
    assert lease.last_renewal(watermark, Timing()) == started
    assert lease.expires_at(watermark, Timing()) == started + 45 * MINUTE


@pytest.mark.parametrize(("age", "is_proved"), [(timedelta(seconds=299), False), (5 * MINUTE, True)])
async def test_the_watermark_proves_the_renewal_of_a_call_that_was_on_record_five_minutes_before(
    world: World, age: timedelta, *, is_proved: bool
) -> None:
    await world.call("young", age=age)
    await world.sweep()

    watermark = await world.store.get_watermark(shard_of("young"))
    assert watermark is not None
    lease = (await world.record("young")).lease
    proved = watermark.sweep_started_at if is_proved else lease.started_at
    assert lease.last_renewal(watermark, Timing()) == proved


async def test_a_call_that_graph_does_not_know_is_ended_by_the_sweep(world: World) -> None:
    await world.call("gone", age=10 * MINUTE)
    del world.graph.calls["gone"]

    await world.sweep()

    call = await world.record("gone")
    assert call.status is Status.ENDED
    assert call.termination is not None
    assert call.termination.source is TerminationSource.KEEP_ALIVE_NOT_FOUND
    assert (call.termination.code, call.termination.subcode) == (None, None)
    assert call.ended_at == world.clock.now()


async def test_a_404_early_in_a_calls_life_is_asked_again_before_it_counts(world: World) -> None:
    await world.call("new", age=4.5 * MINUTE)  # half a minute, for clocks of which each is off by two
    del world.graph.calls["new"]

    await world.sweep()
    failing = (await world.record("new")).failing
    assert failing is not None
    assert failing.retry_at >= world.clock.now() + 1.5 * MINUTE  # as soon as it would count

    await world.clock.advance(MINUTE)
    await world.drain()
    assert (await world.record("new")).status is Status.ACTIVE

    await world.clock.advance(2 * MINUTE)
    await world.drain()
    assert (await world.record("new")).status is Status.ENDED


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (GraphUnavailable("503", status=503), "unavailable"),
        (GraphUnavailable("time-out"), "unavailable"),
        (GraphForbidden("7504", status=403, subcode=7504), "forbidden"),
        (GraphForbidden("7505", status=403, subcode=7505), "forbidden"),
        (GraphRejected("8501", status=400, subcode=8501), "rejected"),
        (GraphRejected("8519", status=409, subcode=8519), "rejected"),
        (GraphRejected("401 twice", status=401), "rejected"),
        (TokenUnavailable("no token"), "noToken"),
        (RuntimeError("a bug"), "internalError"),
    ],
)
async def test_no_trouble_of_ours_or_graphs_ends_a_call(world: World, error: Exception, reason: str) -> None:
    await world.call("troubled", age=10 * MINUTE)
    await world.call("fine", age=10 * MINUTE)
    world.graph.faults["troubled"] = raising(error)

    await world.sweep()

    call = await world.record("troubled")
    assert call.status is Status.ACTIVE
    assert call.failing is not None
    assert (call.failing.reason, call.failing.attempts) == (reason, 1)
    assert len(world.graph.calls["fine"].keep_alives) == 1


async def test_a_failing_call_is_retried_after_1_2_4_8_and_8_minutes_until_it_succeeds(world: World) -> None:
    await world.call("call", age=10 * MINUTE)
    world.graph.faults["call"] = raising(GraphUnavailable("503", status=503), times=7)
    began = world.clock.now()
    await world.sweep()

    tried: list[float] = []
    for _ in range(23):
        before = world.graph.requests["keepAlive"]
        await world.clock.advance(MINUTE)
        await world.drain()
        if world.graph.requests["keepAlive"] > before:
            tried.append((world.clock.now() - began) / MINUTE)
    assert tried == [1, 3, 7, 15, 20, 23]  # 20: the dead man's switch, which leaves the chain of retries alone
    assert (await world.record("call")).failing is not None

    await world.clock.advance(6 * MINUTE)  # 12 minutes were left: half of them, not 8
    await world.drain()
    call = await world.record("call")
    assert call.failing is None
    assert call.renewed_at == world.clock.now()
    assert [event.kind for event in await world.store.list_events("call")][-2:] == [
        "keepAliveFailing",
        "keepAliveRecovered",
    ]


async def test_a_sweep_does_not_begin_a_second_chain_of_retries(world: World) -> None:
    await world.call("call", age=10 * MINUTE)
    world.graph.faults["call"] = raising(GraphUnavailable("503", status=503))
    await world.sweep()
    await world.sweep()
    await world.sweep()
    renewals = [message for _, message in world.queue.waiting() if isinstance(message, Renew)]
    assert len(renewals) == 1


async def test_a_lost_retry_message_is_replaced_by_the_next_sweep(world: World) -> None:
    await world.call("call", age=10 * MINUTE)
    world.graph.faults["call"] = raising(GraphUnavailable("503", status=503))
    world.queue.broken = True
    await world.sweep()
    world.queue.broken = False
    assert not world.queue.messages

    await world.clock.advance(15 * MINUTE)
    await world.sweep()
    assert [type(message) for _, message in world.queue.waiting()].count(Renew) == 1


async def test_a_retry_message_that_the_row_does_not_wait_for_any_more_does_nothing(world: World) -> None:
    await world.call("call", age=10 * MINUTE)
    world.graph.faults["call"] = raising(GraphUnavailable("503", status=503), times=1)
    await world.sweep()
    await world.sweep()  # succeeds
    asked = world.graph.requests["keepAlive"]
    await world.clock.advance(MINUTE)
    await world.drain()
    assert world.graph.requests["keepAlive"] == asked


async def test_a_retry_message_that_is_not_the_one_the_row_waits_for_does_nothing(world: World) -> None:
    await world.call("call", age=10 * MINUTE)
    world.graph.faults["call"] = raising(GraphUnavailable("503", status=503))
    await world.sweep()
    asked, waiting = world.graph.requests["keepAlive"], len(world.queue.messages)
    await world.clock.run(world.keeper.handle(Renew(call_id="call", retry_at=world.clock.now() - MINUTE)))
    assert (world.graph.requests["keepAlive"], len(world.queue.messages)) == (asked, waiting)


async def test_an_early_404_is_asked_again_as_soon_as_it_counts_however_often_it_came(world: World) -> None:
    await world.call("call")
    world.graph.calls["call"].ended = True
    for _ in range(5):
        await world.sweep()
        await world.clock.advance(MINUTE)
    world.queue.messages.clear()
    failing = (await world.record("call")).failing
    assert failing
    behind = Renew(call_id="call", retry_at=failing.retry_at)  # taken by a clock that is behind: too early again
    await world.clock.run(world.keeper.handle(behind))
    await world.clock.advance(2 * MINUTE)
    await world.drain()
    assert (await world.record("call")).status is Status.ENDED


async def test_a_failing_call_keeps_its_last_proved_renewal(world: World) -> None:
    await world.call("call", age=10 * MINUTE)
    await world.sweep()
    renewed = world.clock.now()
    await world.clock.advance(15 * MINUTE)
    world.graph.faults["call"] = raising(GraphUnavailable("503", status=503))
    await world.sweep()
    watermark = await world.store.get_watermark(shard_of("call"))
    assert (await world.record("call")).lease.last_renewal(watermark, Timing()) == renewed


async def test_a_call_not_renewed_for_30_minutes_is_told_to_be_at_risk(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.call("call", age=29 * MINUTE)
    world.graph.faults["call"] = raising(GraphForbidden("7504", status=403, subcode=7504))
    await world.sweep()
    assert not [record for record in caplog.records if "at_risk" in record.message]

    await world.clock.advance(MINUTE)
    await world.drain()
    told = [record for record in caplog.records if "at_risk" in record.message]
    assert [record.levelname for record in told] == ["ERROR"]
    assert "subcode=7504" in told[0].message


async def test_after_45_minutes_without_success_the_call_is_looked_up_before_it_is_given_up(world: World) -> None:
    await world.call("call", age=10 * MINUTE)
    world.graph.faults["keepAlive"] = raising(GraphUnavailable("503", status=503))
    await world.sweep()
    for _ in range(30):
        await world.clock.advance(MINUTE)
        await world.drain()
    assert world.graph.requests["get"] == 0
    for _ in range(15):
        await world.clock.advance(MINUTE)
        await world.drain()

    call = await world.record("call")
    assert call.status is Status.ENDED
    assert call.termination is not None
    assert call.termination.source is TerminationSource.LOOKUP_NOT_FOUND


async def test_a_lookup_that_tells_the_end_tells_its_reason_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def get(_call_id: str, _tenant_id: str, _app_id: str | None) -> GraphCall:
        return GraphCall("terminated", 408, 8537, "Keep alive timeout")

    await world.call("call", age=50 * MINUTE)
    world.graph.faults["keepAlive"] = raising(GraphUnavailable("503", status=503))
    monkeypatch.setattr(world.graph, "get", get)
    await world.sweep()
    end = (await world.record("call")).termination
    assert end is not None
    assert (end.code, end.subcode, end.category) == (408, 8537, "keepAlive")


async def test_a_call_that_graph_still_knows_after_45_minutes_is_kept(world: World) -> None:
    await world.call("call", age=50 * MINUTE)
    world.graph.calls["call"].expires_at = world.clock.now() + 10 * MINUTE
    world.graph.faults["keepAlive"] = raising(GraphUnavailable("503", status=503), times=1)
    await world.sweep()
    assert world.graph.requests["get"] == 1
    assert (await world.record("call")).status is Status.ACTIVE


async def test_a_throttled_tenant_waits_as_long_as_graph_asks_and_no_other_tenant_does(world: World) -> None:
    for number in range(20):
        await world.call(f"slow-{number}", age=10 * MINUTE)
        await world.call(f"quick-{number}", tenant=OTHER, age=10 * MINUTE)
    world.graph.faults[TENANT] = raising(GraphThrottled("429", status=429, retry_after=5.5), times=1)
    began = world.clock.now()

    await world.sweep()

    slow = [call.keep_alives[0] - began for call_id, call in world.graph.calls.items() if call_id.startswith("slow")]
    quick = [call.keep_alives[0] - began for call_id, call in world.graph.calls.items() if call_id.startswith("quick")]
    assert len(slow) == len(quick) == 20
    assert max(slow) >= timedelta(seconds=5.5)
    assert (await world.record("slow-3")).failing is None


async def test_another_app_of_a_throttled_tenant_does_not_wait(world: World) -> None:
    await world.call("hers", app="app-a", age=10 * MINUTE)
    await world.call("his", app="app-b", age=10 * MINUTE)
    world.graph.faults["app-a"] = raising(GraphThrottled("429", status=429, retry_after=600))

    await world.sweep()

    assert [len(world.graph.calls[call].keep_alives) for call in ("hers", "his")] == [0, 1]
    assert world.keeper._renewer.backoff.current(TenantApp(TENANT, "app-a"))
    assert not world.keeper._renewer.backoff.current(TenantApp(TENANT, "app-b"))


async def test_a_tenant_throttled_for_good_gets_retries_after_retry_after(world: World) -> None:
    await world.call("call", age=10 * MINUTE)
    world.graph.faults["call"] = raising(GraphThrottled("429", status=429, retry_after=600))
    await world.sweep()
    call = await world.record("call")
    assert call.failing is not None
    assert call.failing.reason == "throttled"
    assert 10 * MINUTE <= call.failing.retry_at - world.clock.now() <= 10.5 * MINUTE  # spread, not all at once


async def test_the_retries_of_a_throttled_tenant_do_not_come_all_at_once(world: World) -> None:
    for number in range(20):
        await world.call(f"call-{number}", age=10 * MINUTE)
    world.graph.faults["*"] = raising(GraphThrottled("429", status=429, retry_after=600))
    await world.sweep()
    calls = [await world.record(f"call-{number}") for number in range(20)]
    seconds = {int(call.failing.retry_at.timestamp()) for call in calls if call.failing}
    assert len(seconds) >= 10
    assert max(seconds) - min(seconds) <= 31


async def test_no_more_requests_are_in_flight_than_allowed() -> None:
    world = make_world(SweepConfig(concurrency=5))

    async def slow(_operation: str, _call_id: str) -> None:
        await world.clock.sleep(1)

    for number in range(300):
        await world.call(f"call-{number}", age=10 * MINUTE)
    world.graph.faults["*"] = slow
    await world.sweep()
    assert world.graph.most_in_flight == 5


async def test_the_calls_with_the_earliest_deadline_go_first() -> None:
    world = make_world(SweepConfig(concurrency=1))
    order: list[str] = []

    async def note(_operation: str, call_id: str) -> None:
        order.append(call_id)

    ids = [call_id for call_id in (f"call-{number}" for number in range(200)) if shard_of(call_id) == 3]
    for age, call_id in enumerate(ids):
        await world.call(call_id, age=(5 + age) * MINUTE)
    world.graph.faults["*"] = note
    await world.sweep()
    assert order == ids[::-1]


async def test_a_sweep_out_of_time_hands_the_rest_to_the_queue_and_only_its_end_writes_the_watermark() -> None:
    world = make_world(SweepConfig(concurrency=2, budget=10 * timedelta(seconds=1)))

    async def slow(_operation: str, _call_id: str) -> None:
        await world.clock.sleep(1)

    ids = [call_id for call_id in (f"call-{number}" for number in range(900)) if shard_of(call_id) == 5][:45]
    for call_id in ids:
        await world.call(call_id, age=10 * MINUTE)
    world.graph.faults["*"] = slow
    began = world.clock.now()

    await world.sweep()
    assert await world.store.get_watermark(5) is None
    assert sum(len(call.keep_alives) for call in world.graph.calls.values()) == 20

    await world.drain()
    watermark = await world.store.get_watermark(5)
    assert watermark is not None
    assert watermark.sweep_started_at == began
    assert watermark.renewed == 45
    assert all(len(call.keep_alives) == 1 for call in world.graph.calls.values())


async def test_a_fresh_shard_is_left_alone_unless_an_operator_asks(world: World) -> None:
    await world.call("call", age=10 * MINUTE)
    await world.sweep()
    await world.clock.run(world.keeper.sweep("timer", unless_younger_than=Timing().sweep_fresh_for))
    assert world.graph.requests["keepAlive"] == 1
    await world.sweep()
    assert world.graph.requests["keepAlive"] == 2


async def test_the_dead_mans_switch_sweeps_when_the_timer_is_dead(world: World) -> None:
    await world.call("call", age=10 * MINUTE)
    await world.sweep("timer")
    for _ in range(180):  # no timer for three hours
        await world.clock.advance(MINUTE)
        await world.drain()
    assert not world.graph.lapsed()
    gaps = zip(world.graph.calls["call"].keep_alives, world.graph.calls["call"].keep_alives[1:], strict=False)
    assert max(later - earlier for earlier, later in gaps) <= 21 * MINUTE


async def test_a_switch_that_is_early_by_its_takers_clock_comes_again_when_a_shard_is_stale(world: World) -> None:
    await world.call("call", age=10 * MINUTE)
    await world.sweep()
    ahead = Watermark(world.clock.now() + 4 * MINUTE, world.clock.now() + 4 * MINUTE)  # the sweeper's clock was
    for shard in range(SHARDS):
        await world.store.put_watermark(shard, ahead)
    await live(world, 26, timer=False)
    assert len(world.graph.calls["call"].keep_alives) == 2


async def test_a_retry_taken_by_a_clock_that_is_behind_leaves_the_next_one(world: World) -> None:
    await world.call("call", age=10 * MINUTE)
    world.graph.faults["call"] = raising(GraphUnavailable("503", status=503))
    await world.sweep()
    behind = VirtualClock(world.clock.now() - 3 * MINUTE)
    renewer = Renewer(world.store, world.graph, world.queue, behind, Timing())
    [message] = [each for _, each in world.queue.waiting() if isinstance(each, Renew)]
    await renewer.retry(message)
    retries = [each.retry_at for _, each in world.queue.waiting() if isinstance(each, Renew)]
    failing = (await world.record("call")).failing
    assert failing is not None
    assert failing.retry_at in retries[1:]


async def test_the_dead_mans_switch_does_nothing_while_the_timer_lives(world: World) -> None:
    await world.call("call", age=10 * MINUTE)
    for _ in range(8):
        await world.clock.run(world.keeper.sweep("timer", unless_younger_than=Timing().sweep_fresh_for))
        for _ in range(15):
            await world.clock.advance(MINUTE)
            await world.drain()
    assert world.graph.requests["keepAlive"] == 8
    assert len(world.queue.messages) <= 2


async def test_one_stale_shard_is_enough_for_the_switch_to_sweep_all(world: World) -> None:
    await world.call("call", age=10 * MINUTE)
    await world.sweep()
    shard, now = shard_of("call"), world.clock.now()
    await world.clock.advance(20 * MINUTE)
    nearly_stale = Watermark(now + MINUTE, now + MINUTE)  # it would be 40 minutes old when the switch comes again
    await world.store.put_watermark(shard, nearly_stale)
    await world.drain()
    assert len(world.graph.calls["call"].keep_alives) == 2


async def test_a_request_that_notices_stale_watermarks_queues_a_sweep_at_most_once_a_minute(world: World) -> None:
    await world.call("call", age=10 * MINUTE)
    await world.keeper.check_for_stale_sweeps()
    await world.keeper.check_for_stale_sweeps()
    assert [message for _, message in world.queue.waiting()] == [Sweep(wake_up="request")]
    await world.drain()
    assert world.graph.requests["keepAlive"] == 1
    await world.clock.advance(2 * MINUTE)
    world.queue.messages.clear()
    await world.keeper.check_for_stale_sweeps()
    assert not world.queue.messages


@pytest.mark.parametrize("ages", [(26, 15), None])
async def test_where_the_queue_hands_nothing_out_the_process_of_a_request_sweeps(ages: tuple[int, int] | None) -> None:
    world = make_world(SweepConfig(fan_out_threshold=0))
    for number in range(100):
        await world.call(f"call-{number}", age=30 * MINUTE)
    for shard in range(SHARDS if ages else 0):
        swept_at = world.clock.now() - (ages or ())[shard > 0] * MINUTE
        await world.store.put_watermark(shard, Watermark(swept_at, swept_at, renewed=6))
    for _ in range(1 if ages else 6):
        await world.keeper.check_for_stale_sweeps()
        await world.clock.advance(MINUTE)
    assert {len(call.keep_alives) for call in world.graph.calls.values()} == {1}
    assert not [message for _, message in world.queue.waiting() if isinstance(message, SweepShard)]


async def test_while_one_process_sweeps_for_its_requests_the_others_do_not() -> None:
    world = make_world()
    for number in range(100):
        await world.call(f"call-{number}", age=10 * MINUTE)
    renewer = Renewer(world.store, world.graph, world.queue, world.clock, Timing())
    others = [Keeper(world.store, renewer, world.clock, SweepConfig()) for _ in range(3)]

    async def slow(*_: str) -> None:
        await world.clock.sleep(90)

    world.graph.faults["*"] = slow
    world.queue.broken = True
    for _ in range(9):
        for keeper in (world.keeper, *others):
            await keeper.check_for_stale_sweeps()
            await world.clock.advance(timedelta(seconds=10))
    assert world.graph.requests["keepAlive"] == SweepConfig().concurrency


async def test_a_request_that_cannot_sweep_tells_so_and_another_one_does(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def away() -> WatchdogState | None:
        raise StoreUnavailable("away (test)")

    await world.call("call", age=10 * MINUTE)
    with monkeypatch.context() as patch:
        patch.setattr(world.store, "get_watchdog_state", away)
        for _ in range(6):
            await world.keeper.check_for_stale_sweeps()
            await world.clock.advance(MINUTE)
    assert not world.graph.requests
    assert [record.message for record in caplog.records if "state_access" in record.message]
    await world.keeper.check_for_stale_sweeps()
    await world.clock.advance(MINUTE)
    assert world.graph.requests["keepAlive"] == 1


async def test_above_a_threshold_the_timer_puts_one_message_a_shard_on_the_queue() -> None:
    world = make_world(SweepConfig(fan_out_threshold=10))
    for number in range(30):
        await world.call(f"call-{number}", age=10 * MINUTE)
    await world.sweep("timer")  # nothing is known of their number yet
    await world.clock.advance(15 * MINUTE)
    world.queue.messages.clear()
    await world.sweep("timer")
    assert world.graph.requests["keepAlive"] == 30
    assert [type(message) for _, message in world.queue.waiting()].count(SweepShard) == SHARDS
    await world.drain()
    assert world.graph.requests["keepAlive"] == 60


class BrokenStore(CallStore):
    """Fails where a test wants it to."""

    def __init__(self) -> None:
        super().__init__(MemoryTable())
        self.commits_fail = False
        self.reads_of_shard_fail: set[int] = set()

    async def commit(self, change: Change) -> None:
        if self.commits_fail:
            raise StoreUnavailable("Table Storage does not answer (test).")
        await super().commit(change)

    async def get_watermark(self, shard: int) -> Watermark | None:
        if shard in self.reads_of_shard_fail:
            raise StoreUnavailable("Table Storage does not answer (test).")
        return await super().get_watermark(shard)

    async def scan(self, shard: int) -> AsyncGenerator[Progress | Stored[Watermark] | Lease]:
        if shard in self.reads_of_shard_fail:
            raise StoreUnavailable("Table Storage does not answer (test).")
        async for record in super().scan(shard):
            yield record


class ReadOnlyStore(CallStore):
    """Reads work, writes are refused: the role is a reader's, or the account fails over."""

    def copy_of(self, other: CallStore) -> None:
        self._table = other._table

    async def commit(self, change: Change) -> None:
        raise StoreUnavailable(f"may not write {change.after.id} (test)")

    async def put_watermark(self, shard: int, watermark: Watermark, etag: str | None = None) -> None:  # noqa: ARG002
        raise StoreUnavailable(f"may not write {shard} {watermark} (test)")

    async def put_watchdog_state(self, state: WatchdogState) -> None:
        raise StoreUnavailable(f"may not write {state} (test)")


def make_broken() -> tuple[World, BrokenStore]:
    world, store = make_world(), BrokenStore()
    world.store = store
    renewer = Renewer(store, world.graph, world.queue, world.clock, Timing())
    world.keeper = Keeper(store, renewer, world.clock, SweepConfig())
    return world, store


async def test_of_what_could_not_be_written_the_watermark_says_nothing_and_it_is_retried() -> None:
    world, store = make_broken()
    ids = [call_id for call_id in (f"call-{number}" for number in range(200)) if shard_of(call_id) == 7]
    for call_id in ids:
        await world.call(call_id, age=10 * MINUTE)
    world.graph.faults[ids[0]] = raising(GraphUnavailable("503", status=503), times=1)
    store.commits_fail = True

    await world.sweep()

    assert all(len(world.graph.calls[call_id].keep_alives) == 1 for call_id in ids[1:])
    watermark = await store.get_watermark(7)
    assert watermark is not None
    assert watermark.unwritten == {ids[0]}
    lease = (await world.record(ids[0])).lease
    assert lease.last_renewal(watermark, Timing()) == lease.started_at
    store.commits_fail = False
    await world.clock.advance(MINUTE)
    await world.drain()
    assert len(world.graph.calls[ids[0]].keep_alives) == 1
    assert all(len(world.graph.calls[call_id].keep_alives) == 1 for call_id in ids[1:])


async def test_a_shard_of_which_much_could_not_be_written_gets_no_watermark_and_is_swept_again() -> None:
    world, store = make_broken()
    ids = [call_id for call_id in (f"call-{number}" for number in range(1200)) if shard_of(call_id) == 7][:60]
    for call_id in ids:
        await world.call(call_id, age=10 * MINUTE)
    world.graph.faults["*"] = raising(GraphUnavailable("503", status=503), times=55)
    store.commits_fail = True
    await world.sweep()
    assert await store.get_watermark(7) is None
    store.commits_fail = False
    for _ in range(15):
        await world.clock.advance(MINUTE)
        await world.drain()
    assert await store.get_watermark(7) is not None
    assert all(world.graph.calls[call_id].keep_alives for call_id in ids)


async def test_a_call_that_can_never_be_written_does_not_set_off_a_storm() -> None:
    world, store = make_broken()
    ids = [call_id for call_id in (f"call-{number}" for number in range(100)) if shard_of(call_id) == 7]
    for call_id in ids:
        await world.call(call_id, age=10 * MINUTE)
    del world.graph.calls[ids[0]]  # its end must be written, and cannot be
    store.commits_fail = True
    asked = []
    for _ in range(6):
        before = world.graph.requests["keepAlive"]
        for minute in range(60):
            if minute % 15 == 0:
                await world.clock.run(world.keeper.sweep("timer", unless_younger_than=Timing().sweep_fresh_for))
            await world.drain()
            await world.clock.advance(MINUTE)
        asked.append(world.graph.requests["keepAlive"] - before)
    assert len(world.queue.messages) < 60
    assert asked[-1] < 4 * len(ids) + 80
    assert not world.graph.lapsed()


@pytest.mark.parametrize("times", [1, 3])
async def test_switches_that_are_left_many_times_are_one_chain(world: World, times: int) -> None:
    await world.call("call", age=10 * MINUTE)
    for _ in range(times):
        await world.sweep()
        await world.clock.advance(MINUTE)
    for _ in range(120):
        await world.clock.advance(MINUTE)
        await world.drain()
    assert [type(message) for _, message in world.queue.waiting()] == [Sweep]


async def test_with_the_queue_away_the_timer_sweeps_itself_instead_of_fanning_out() -> None:
    world = make_world(SweepConfig(fan_out_threshold=10))
    for number in range(30):
        await world.call(f"call-{number}", age=10 * MINUTE)
    await world.sweep("timer")
    world.queue.broken = True
    for _ in range(5):
        await world.clock.advance(15 * MINUTE)
        await world.sweep("timer")
    assert not world.graph.lapsed()


@pytest.mark.parametrize("before", [-MINUTE, 5 * MINUTE / 2, 6 * MINUTE])
def test_a_call_that_came_about_the_time_of_a_sweep_keeps_its_place_behind_older_ones(before: timedelta) -> None:
    swept_at = datetime(2026, 3, 2, tzinfo=UTC)
    old, new = (Lease(name, TENANT, began, began) for name, began in (("b", swept_at - HOUR), ("a", swept_at - before)))
    for later in (timedelta(), 30 * MINUTE):
        watermark = Watermark(swept_at + later, swept_at + later)
        assert old.sweep_position(watermark, Timing()) < new.sweep_position(watermark, Timing())


def test_a_call_that_nobody_renewed_for_long_goes_first_however_late_it_came() -> None:
    swept_at = datetime(2026, 3, 2, tzinfo=UTC)
    swept = Lease("a", TENANT, swept_at - HOUR, swept_at - HOUR)
    late = Lease("b", TENANT, swept_at, swept_at - 10 * MINUTE)
    watermark = Watermark(swept_at, swept_at)
    assert late.sweep_position(watermark, Timing()) < swept.sweep_position(watermark, Timing())


async def test_without_the_queue_a_sweep_that_runs_out_of_time_goes_on_at_the_next_tick() -> None:
    world = make_world(SweepConfig(concurrency=2, budget=timedelta(seconds=10)))

    async def slow(_operation: str, _call_id: str) -> None:
        await world.clock.sleep(1)

    for call_id in [call_id for call_id in (f"call-{number}" for number in range(900)) if shard_of(call_id) == 5][:35]:
        await world.call(call_id, age=10 * MINUTE)
    world.graph.faults["*"] = slow
    world.queue.broken = True
    for _ in range(2):
        await world.clock.run(world.keeper.sweep("timer", unless_younger_than=Timing().sweep_fresh_for))
        await world.clock.advance(15 * MINUTE)
    assert all(call.keep_alives for call in world.graph.calls.values())


@pytest.mark.parametrize(("minutes", "goes_on"), [(29, True), (31, False)])
async def test_a_sweep_that_ran_out_of_time_long_ago_is_begun_anew(world: World, minutes: int, goes_on: bool) -> None:
    await world.call("call", age=10 * MINUTE)
    began, last = world.clock.now() - minutes * MINUTE, world.clock.now() + HOUR
    await world.store.put_progress(
        shard_of("call"), Progress(began, base_watermark_at=None, cursor=(last, last, "~"), renewed=1)
    )
    await world.clock.run(world.keeper.sweep("timer", unless_younger_than=Timing().sweep_fresh_for))
    watermark = await world.store.get_watermark(shard_of("call"))
    assert watermark is not None
    assert watermark.sweep_started_at == (began if goes_on else world.clock.now())
    assert len(world.graph.calls["call"].keep_alives) == (0 if goes_on else 1)


async def test_a_switch_that_could_not_be_left_as_a_sweep_began_is_left_as_it_ends(world: World) -> None:
    async def mend(_operation: str, _call_id: str) -> None:
        await world.clock.sleep(31)  # a queue that is away is not asked again for half a minute
        world.queue.broken = False

    await world.call("call", age=10 * MINUTE)
    world.graph.faults["call"] = mend
    world.queue.broken = True
    await world.sweep("timer")
    message = world.queue.due(world.clock.now() + HOUR)
    assert isinstance(message, Sweep)
    assert message.wake_up == "watchdog"


async def live(world: World, minutes: int, *, timer: bool) -> None:
    for minute in range(minutes):
        if timer and minute % 15 == 0:
            await world.clock.run(world.keeper.sweep("timer", unless_younger_than=Timing().sweep_fresh_for))
        await world.drain(world.clock.now())  # handling one may take minutes, and the next be due by then
        await world.clock.advance(MINUTE)


async def test_after_fanning_out_the_dead_mans_switch_still_has_a_successor() -> None:
    world = make_world(SweepConfig(fan_out_threshold=10))
    for number in range(60):
        await world.call(f"call-{number}", age=10 * MINUTE)
    await live(world, 16, timer=True)
    await live(world, 180, timer=False)
    assert not world.graph.lapsed()


async def test_an_outage_that_messages_mended_leaves_a_switch_for_a_dead_timer() -> None:
    world, store = make_broken()
    for number in range(60):
        await world.call(f"call-{number}", age=10 * MINUTE)
    store.reads_of_shard_fail = set(range(SHARDS))
    with pytest.raises(StoreUnavailable):
        await world.sweep("timer")
    store.reads_of_shard_fail = set()
    await live(world, 180, timer=False)
    assert not world.graph.lapsed()


async def test_calls_that_are_refused_for_ever_do_not_starve_the_others_of_their_tenant(world: World) -> None:
    for number in range(200):
        await world.call(f"bad-{number}", age=12 * MINUTE)
        world.graph.calls[f"bad-{number}"].expires_at += timedelta(days=1)
        world.graph.faults[f"bad-{number}"] = raising(GraphForbidden("7507", status=403, subcode=7507))
    for number in range(5):
        await world.call(f"good-{number}", age=10 * MINUTE)
    await live(world, 100, timer=True)
    good = [call for call_id, call in world.graph.calls.items() if call_id.startswith("good")]
    assert not world.graph.lapsed()
    assert all(len(call.keep_alives) >= 6 for call in good)


async def test_many_sweeps_at_once_share_the_slots_and_still_end_in_time() -> None:
    plan = SweepConfig(concurrency=8)
    world = make_world(plan)

    async def slow(_operation: str, _call_id: str) -> None:
        await world.clock.sleep(5)

    for number in range(1500):
        await world.call(f"call-{number}", age=10 * MINUTE)
    world.graph.faults["*"] = slow
    began = world.clock.now()
    await world.clock.run(asyncio.gather(*(world.keeper.handle(SweepShard(shard=shard)) for shard in range(SHARDS))))
    assert world.clock.now() - began <= plan.budget + timedelta(seconds=5)
    assert world.graph.most_in_flight == 8


async def test_a_renewal_outside_of_sweeps_does_not_wait_for_their_slots() -> None:
    world = make_world(SweepConfig(concurrency=2))

    async def slow(_operation: str, call_id: str) -> None:
        if call_id.startswith("swept"):
            await world.clock.sleep(10)

    for number in range(20):
        await world.call(f"swept-{number}", age=10 * MINUTE)
    world.graph.faults["*"] = slow
    sweeping = asyncio.create_task(world.keeper.sweep("operator"))
    await settle()
    await world.call("registered", age=40 * MINUTE)
    renewing = asyncio.create_task(world.keeper.handle(Renew(call_id="registered")))
    await settle()
    assert renewing.done()
    assert not sweeping.done()
    await world.clock.run(sweeping)


async def test_what_a_sweep_asks_of_graph_lets_other_requests_go_first() -> None:
    world, pace = make_world(), RateLimiter(1000)
    lanes: dict[tuple[str, str], bool] = {}

    async def note(operation: str, call_id: str) -> None:
        before = pace._sweeps.outstanding
        async with pace.permit():
            lanes[operation, call_id] = pace._sweeps.outstanding > before
        if call_id == "lapsing":
            raise GraphUnavailable("away")

    await world.call("lapsing", age=50 * MINUTE)  # so long without a renewal that a look-up follows
    await world.call("well", age=10 * MINUTE)
    await world.call("registered", age=40 * MINUTE)
    world.graph.faults["*"] = note
    await world.sweep()
    assert lanes == {
        ("keepAlive", "lapsing"): True,
        ("get", "lapsing"): True,
        ("keepAlive", "well"): True,
        ("keepAlive", "registered"): True,
    }
    lanes.clear()
    await world.keeper.handle(Renew(call_id="registered"))
    assert lanes == {("keepAlive", "registered"): False}


async def test_refused_writes_do_not_multiply_messages() -> None:
    world, store = make_world(), ReadOnlyStore(MemoryTable())
    for number in range(32):
        await world.call(f"call-{number}", age=10 * MINUTE)
    store.copy_of(world.store)
    world.store = store
    renewer = Renewer(store, world.graph, world.queue, world.clock, Timing())
    world.keeper = Keeper(store, renewer, world.clock, SweepConfig())
    for _ in range(180):
        if world.clock.now().minute % 15 == 0:
            with suppress(StoreUnavailable):
                await world.clock.run(world.keeper.sweep("timer", unless_younger_than=Timing().sweep_fresh_for))
        await world.drain(world.clock.now())  # handling one may take minutes, and the next be due by then
        await world.clock.advance(MINUTE)
    assert len(world.queue.messages) < 500  # they were 150,000 after two hours when each failure left its own
    assert not world.graph.lapsed()


async def test_with_table_and_queue_black_holed_a_sweep_ends_within_the_hosts_limit() -> None:
    world, store = make_broken()

    async def black_hole(*_: object) -> None:
        await world.clock.sleep(10)
        raise StoreUnavailable("no answer (test)")

    store.get_watermark = store.put_watermark = black_hole  # type: ignore[method-assign, assignment] # away
    store.put_watchdog_state = world.queue.send = black_hole  # type: ignore[method-assign, assignment] # as above
    began = world.clock.now()
    with pytest.raises(StoreUnavailable):
        await world.sweep("timer")
    assert world.clock.now() - began < timedelta(minutes=4, seconds=45)
    began = world.clock.now()
    with pytest.raises(StoreUnavailable):
        await world.clock.run(world.keeper.sweep("operator", budget=3 * MINUTE))
    assert world.clock.now() - began < timedelta(seconds=230)


async def test_a_shard_that_takes_half_an_hour_leaves_none_of_its_calls_out() -> None:
    world = make_world(SweepConfig(concurrency=1))

    async def slow(_operation: str, _call_id: str) -> None:
        await world.clock.sleep(30)

    for call_id in [call_id for call_id in (f"call-{number}" for number in range(900)) if shard_of(call_id) == 5][:44]:
        await world.call(call_id, age=10 * MINUTE)
    world.graph.faults["*"] = slow
    await live(world, 30, timer=True)
    assert all(call.keep_alives for call in world.graph.calls.values())


async def test_a_tenant_that_hangs_does_not_hold_up_the_calls_of_others() -> None:
    world = make_world(SweepConfig(concurrency=8))

    async def hang(_operation: str, _call_id: str) -> None:
        await world.clock.sleep(10)
        raise GraphUnavailable("time-out")

    for number in range(2000):
        await world.call(f"slow-{number}", age=11 * MINUTE)
    for number in range(200):
        await world.call(f"quick-{number}", tenant=OTHER, age=10 * MINUTE)
    world.graph.faults[TENANT] = hang
    began = world.clock.now()
    await world.sweep()
    assert world.clock.now() - began < 2 * MINUTE
    quick = [call for call_id, call in world.graph.calls.items() if call_id.startswith("quick")]
    assert all(call.keep_alives for call in quick)


async def test_retries_wait_for_a_throttled_tenant(world: World) -> None:
    for number in range(30):
        await world.call(f"call-{number}", age=10 * MINUTE)
    world.graph.faults[TENANT] = raising(GraphThrottled("429", status=429, retry_after=300))
    await world.sweep()
    before = world.graph.requests["keepAlive"]
    await world.clock.advance(5.6 * MINUTE)
    await world.drain()
    assert world.graph.requests["keepAlive"] - before == 1  # the first is throttled again, and the others wait


async def test_a_watermark_that_cannot_be_read_stops_neither_the_timer_nor_the_switch() -> None:
    world, store = make_broken()
    for number in range(64):
        await world.call(f"call-{number}", age=10 * MINUTE)
    store.reads_of_shard_fail = {3}
    await world.sweep("timer")
    kept = [call_id for call_id, call in world.graph.calls.items() if call.keep_alives]
    assert {shard_of(call_id) for call_id in kept} == set(range(SHARDS)) - {3}
    await world.clock.advance(21 * MINUTE)
    await world.drain()
    assert all(len(world.graph.calls[call_id].keep_alives) == 2 for call_id in kept)


async def test_noticing_never_fails_and_never_takes_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_shard: int) -> Watermark | None:
        raise ValueError("a damaged row")

    monkeypatch.setattr(world.store, "get_watermark", broken)
    await world.keeper.check_for_stale_sweeps()


async def test_a_shard_that_cannot_be_read_does_not_hold_up_the_others_and_is_swept_again() -> None:
    world, store = make_broken()
    for number in range(64):
        await world.call(f"call-{number}", age=10 * MINUTE)
    store.reads_of_shard_fail = {0}
    await world.sweep()
    missed = [call_id for call_id, call in world.graph.calls.items() if not call.keep_alives]
    assert missed
    assert {shard_of(call_id) for call_id in missed} == {0}
    store.reads_of_shard_fail = set()
    await world.clock.advance(MINUTE)
    await world.drain()
    assert all(call.keep_alives for call in world.graph.calls.values())


@pytest.mark.parametrize("message", [SweepShard(shard=0), Renew(call_id="call-0")])
async def test_a_message_that_meets_a_store_outage_is_put_back_instead_of_poisoned(message: SweepShard | Renew) -> None:
    world, store = make_broken()
    await world.call("call-0", age=10 * MINUTE)
    store.reads_of_shard_fail = set(range(SHARDS))
    await world.keeper.handle(message)
    assert (MINUTE, message.model_copy(update={"put_back": 1})) in world.queue.waiting()
    await world.keeper.handle(message.model_copy(update={"put_back": 14}))  # enough: the sweeps must do
    assert len(world.queue.waiting()) == 1
    world.queue.broken = True
    with pytest.raises(StoreUnavailable):
        await world.keeper.handle(message)


async def test_a_sweep_that_reaches_no_shard_fails_so_that_the_host_sees_it() -> None:
    world, store = make_broken()
    store.reads_of_shard_fail = set(range(SHARDS))
    with pytest.raises(StoreUnavailable):
        await world.sweep()


@pytest.mark.parametrize("keep_alives_before_death", range(0, 12, 3))
async def test_a_sweep_that_dies_anywhere_is_made_good_by_the_next(keep_alives_before_death: int) -> None:
    world = make_world(SweepConfig(concurrency=1))
    for number in range(10):
        await world.call(f"call-{number}", age=20 * MINUTE)
    task: asyncio.Task[object]
    seen = 0

    async def die(_operation: str, _call_id: str) -> None:
        nonlocal seen
        if seen == keep_alives_before_death:
            task.cancel()
            await asyncio.sleep(0)
        seen += 1

    world.graph.faults["*"] = die
    task = asyncio.ensure_future(world.keeper.sweep("timer"))
    await asyncio.wait([task])
    world.graph.faults.clear()
    await world.clock.advance(15 * MINUTE)
    await world.sweep("timer")
    assert not world.graph.lapsed()
    assert all(call.keep_alives for call in world.graph.calls.values())


async def test_two_sweeps_at_once_are_harmless(world: World) -> None:
    for number in range(30):
        await world.call(f"call-{number}", age=20 * MINUTE)
    del world.graph.calls["call-7"]
    await world.clock.run(asyncio.gather(world.keeper.sweep("timer"), world.keeper.sweep("operator")))
    assert all(1 <= len(call.keep_alives) <= 2 for call in world.graph.calls.values())
    assert (await world.record("call-7")).status is Status.ENDED


async def test_ended_calls_are_purged_after_their_retention(world: World) -> None:
    await world.call("old", age=10 * MINUTE)
    del world.graph.calls["old"]
    await world.sweep()
    await world.clock.advance(timedelta(days=29))
    await world.sweep()
    assert await world.store.get("old") is not None
    await world.clock.advance(timedelta(days=2))
    await world.sweep()
    assert await world.store.get("old") is None
    assert await world.store.list_events("old") == []


async def test_the_smallest_margin_is_told_with_the_sweep(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    await world.call("tight", age=40 * MINUTE)
    await world.call("loose", age=5 * MINUTE)
    await world.sweep()
    told = [record.message for record in caplog.records if record.message.startswith("keep_alive.sweep.finished")]
    assert len(told) == 1
    assert "smallestMarginMinutes=5.0" in told[0]
    assert "renewed=2" in told[0]


async def test_a_tenant_that_answers_slowly_does_not_hold_up_the_others() -> None:
    world = make_world(SweepConfig(concurrency=8))
    done: dict[str, datetime] = {}

    async def answer(_operation: str, call_id: str) -> None:
        await world.clock.sleep(9 if call_id.startswith("slow") else 0.2)
        done[call_id] = world.clock.now()

    for number in range(160):
        await world.call(f"slow-{number}", tenant=OTHER, age=20 * MINUTE)
        await world.call(f"quick-{number}", age=10 * MINUTE)
    world.graph.faults["*"] = answer
    began = world.clock.now()
    await world.sweep()

    assert all(call.keep_alives for call in world.graph.calls.values())
    quick = max(at - began for call_id, at in done.items() if call_id.startswith("quick"))
    slow = max(at - began for call_id, at in done.items() if call_id.startswith("slow"))
    assert quick < slow / 2


async def test_what_a_slow_tenant_left_undone_is_handed_over_and_done() -> None:
    world = make_world(SweepConfig(concurrency=4, budget=20 * timedelta(seconds=1)))

    async def answer(_operation: str, call_id: str) -> None:
        await world.clock.sleep(9 if call_id.startswith("slow") else 0.2)

    ids = [call_id for number in range(900) if shard_of(call_id := f"{('slow', 'quick')[number % 2]}-{number}") == 5]
    for call_id in ids[:30]:
        await world.call(call_id, tenant=OTHER if call_id.startswith("slow") else TENANT, age=10 * MINUTE)
    world.graph.faults["*"] = answer
    began = world.clock.now()
    await world.sweep()
    assert await world.store.get_watermark(5) is None
    assert all(world.graph.calls[call_id].keep_alives for call_id in ids[:30] if call_id.startswith("quick"))

    for _ in range(3):
        await world.drain()
    watermark = await world.store.get_watermark(5)
    assert watermark is not None
    assert watermark.sweep_started_at == began
    assert all(call.keep_alives for call in world.graph.calls.values())


async def test_sweeps_begin_with_another_shard_each_time() -> None:
    world = make_world()
    first: list[int] = []

    async def note(_operation: str, call_id: str) -> None:
        shards.append(shard_of(call_id))

    for number in range(60):
        await world.call(f"call-{number}")
    world.graph.faults["*"] = note
    for _ in range(16):
        shards: list[int] = []
        await world.sweep()
        first.append(shards[0])
        await world.clock.advance(15 * MINUTE)
    assert sorted(first) == list(range(SHARDS))


@pytest.mark.parametrize(("most", "shards"), [(8_000, SHARDS), (30, 4)])
async def test_small_shards_are_swept_all_at_once_large_ones_one_after_the_other(
    most: int, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_module, "MAX_LEASES_IN_MEMORY", most)
    world = make_world(SweepConfig(concurrency=64))

    async def slow(_operation: str, call_id: str) -> None:
        in_hand[shard_of(call_id)] += 1
        most_seen.append(len(+in_hand))
        await world.clock.sleep(1)
        in_hand[shard_of(call_id)] -= 1

    in_hand: Counter[int] = Counter()
    most_seen: list[int] = []
    for number in range(640):
        await world.call(f"call-{number}", age=10 * MINUTE)
    world.graph.faults["*"] = slow
    await world.sweep()
    assert max(most_seen) <= shards
    assert all(call.keep_alives for call in world.graph.calls.values())


async def test_requests_do_not_pile_up_sweeps_while_one_is_under_way() -> None:
    world = make_world(SweepConfig(concurrency=1))

    async def slow(_operation: str, _call_id: str) -> None:
        await world.clock.sleep(5)

    for number in range(40):
        await world.call(f"call-{number}", age=10 * MINUTE)
    world.graph.faults["*"] = slow
    under_way = asyncio.ensure_future(world.keeper.sweep("request"))
    await world.clock.advance(MINUTE)
    for _ in range(3):
        await world.clock.run(world.keeper.handle(Sweep(wake_up="request")))
    await world.clock.run(under_way)
    assert world.graph.requests["keepAlive"] == 40


async def test_a_sweep_that_died_has_a_successor_and_requests_are_heard_again() -> None:
    for wake_up in (Sweep(wake_up="request"), None):
        world = make_world()

        async def hang(_operation: str, _call_id: str, world: World = world) -> None:
            await world.clock.sleep(3600)

        await world.call("call", age=10 * MINUTE)
        world.graph.faults["*"] = hang
        dies = asyncio.ensure_future(world.keeper.sweep("timer"))
        await world.clock.advance(MINUTE)
        dies.cancel()
        world.graph.faults.clear()
        await world.clock.advance((5 if wake_up else 20) * MINUTE)
        if wake_up:
            await world.clock.run(world.keeper.handle(wake_up))
        await world.drain()
        assert len(world.graph.calls["call"].keep_alives) == 1


async def test_where_the_queue_stands_still_the_timer_alone_keeps_a_large_fleet() -> None:
    world = make_world(SweepConfig(fan_out_threshold=10))
    for number in range(60):
        await world.call(f"call-{number}", age=10 * MINUTE)
    for _ in range(180):
        if _ % 15 == 0:
            await world.sweep("timer")
        await world.clock.advance(MINUTE)
    assert not world.graph.lapsed()
    assert len(world.queue.messages) < 15 * SHARDS


@pytest.mark.parametrize("swept_ago", [5, 25])
async def test_a_switch_that_could_leave_no_successor_stays(world: World, swept_ago: int) -> None:
    await world.call("call", age=10 * MINUTE)
    await world.sweep()
    await world.clock.advance(swept_ago * MINUTE)
    world.keeper = Keeper(world.store, world.keeper._renewer, world.clock, SweepConfig())  # another process
    world.queue.broken = True
    with pytest.raises(StoreUnavailable):
        await world.clock.run(world.keeper.handle(Sweep(wake_up="watchdog", due=world.clock.now() + 30 * MINUTE)))


async def test_a_sweep_that_read_before_a_retry_does_not_undo_what_the_retry_wrote(world: World) -> None:
    await world.call("call", age=20 * MINUTE)
    world.graph.faults["call"] = raising(GraphUnavailable("503", status=503))
    await world.sweep()
    before = (await world.record("call")).lease
    await world.clock.advance(MINUTE)
    await world.drain()
    written = (await world.record("call")).failing
    assert written is not None

    assert before.failing is not None
    ahead = replace(before, failing=replace(before.failing, retry_at=world.clock.now() + MINUTE))  # another's clock
    await world.clock.run(world.keeper._renewer.renew(ahead, None, swept=True))

    now_written = (await world.record("call")).failing
    assert now_written is not None
    assert now_written.retry_at == written.retry_at
    assert written.retry_at in {message.retry_at for _, message in world.queue.waiting() if isinstance(message, Renew)}


async def test_a_renewal_that_is_written_late_does_not_undo_a_later_failure(world: World) -> None:
    await world.call("call", age=10 * MINUTE)

    async def stand_still(_operation: str, _call_id: str) -> None:
        """Graph renews; before its answer is read another process sweeps, and fails."""
        del world.graph.faults["call"]
        renewer = Renewer(world.store, world.graph, world.queue, world.clock, Timing())
        world.clock.set(world.clock.now() + 20 * MINUTE)
        world.graph.faults["call"] = raising(GraphUnavailable("503 (test)", status=503))
        await Keeper(world.store, renewer, world.clock, SweepConfig()).sweep("timer")
        del world.graph.faults["call"]

    asked_at = world.clock.now()
    world.graph.faults["call"] = stand_still
    await world.clock.run(world.keeper.handle(Renew(call_id="call")))

    call = await world.record("call")
    assert call.failing
    assert call.renewed_at == asked_at
    assert call.lease.last_renewal(await world.store.get_watermark(shard_of("call")), Timing()) == asked_at


async def test_a_renewal_that_is_written_late_does_not_take_a_new_failure_for_the_one_it_mends(world: World) -> None:
    """Both are a first try: they differ in when they began."""
    await world.call("call", age=10 * MINUTE)
    away = GraphUnavailable("503 (test)", status=503)
    world.graph.faults["call"] = raising(away, times=1)
    await world.sweep("timer")

    async def stand_still(_operation: str, _call_id: str) -> None:
        """Another process mends it, and fails 20 minutes later."""
        del world.graph.faults["call"]
        keeper = Keeper(
            world.store,
            Renewer(world.store, world.graph, world.queue, world.clock, Timing()),
            world.clock,
            SweepConfig(),
        )
        await keeper.sweep("timer")
        assert (await world.record("call")).failing is None
        world.clock.set(world.clock.now() + 20 * MINUTE)
        world.graph.faults["call"] = raising(away, times=1)
        await keeper.sweep("timer")

    world.graph.faults["call"] = stand_still
    await world.clock.run(world.keeper.handle(Renew(call_id="call")))
    failing = (await world.record("call")).failing
    assert failing
    assert failing.attempts == 1


async def test_a_later_sweep_keeps_those_first_who_were_first() -> None:
    """One sweep may take several ticks: who is first in one and last in the next waits for three of them."""
    world = make_world(SweepConfig(concurrency=1))

    async def slow(_operation: str, _call_id: str) -> None:
        await world.clock.sleep(1)

    world.graph.faults["*"] = slow
    ids = sorted((call_id for call_id in map("call-{}".format, range(200)) if shard_of(call_id) == 5), reverse=True)
    for minute, call_id in enumerate(ids):
        await world.call(call_id, age=(30 - minute) * MINUTE)
    for _ in range(3):
        await world.clock.advance(10 * MINUTE)
        await world.sweep()
    orders = [sorted(ids, key=lambda call_id: world.graph.calls[call_id].keep_alives[sweep]) for sweep in range(3)]
    assert orders == [ids, ids, ids]


async def test_an_operators_sweep_does_not_set_back_one_that_goes_on_at_the_next_tick() -> None:
    world = make_world(SweepConfig(concurrency=1, budget=timedelta(seconds=20)))

    async def slow(_operation: str, _call_id: str) -> None:
        await world.clock.sleep(1)

    for call_id in [call_id for call_id in map("call-{}".format, range(900)) if shard_of(call_id) == 5][:35]:
        await world.call(call_id, age=10 * MINUTE)
    world.graph.faults["*"] = slow
    world.queue.broken = True
    await world.clock.run(world.keeper.sweep("timer", unless_younger_than=Timing().sweep_fresh_for))
    await world.clock.run(world.keeper.sweep("operator", budget=timedelta(seconds=5)))
    await world.clock.advance(15 * MINUTE)
    await world.clock.run(world.keeper.sweep("timer", unless_younger_than=Timing().sweep_fresh_for))
    assert all(call.keep_alives for call in world.graph.calls.values())


async def test_writing_down_what_was_put_off_ends_in_time_and_the_rest_is_handed_over() -> None:
    world = make_world(SweepConfig(budget=20 * timedelta(seconds=1)))
    ids = [call_id for call_id in map("call-{}".format, range(20_000)) if shard_of(call_id) == 5]
    for call_id in ids:
        await world.call(call_id, age=10 * MINUTE)
    world.graph.faults[TENANT] = raising(GraphThrottled("429", status=429, retry_after=60))
    commit = world.store.commit

    async def slow(change: Change) -> None:
        await world.clock.sleep(1)
        await commit(change)

    world.store.commit = slow  # type: ignore[method-assign] # storage is slow
    began = world.clock.now()
    await world.sweep("timer")
    assert world.clock.now() - began < timedelta(seconds=40)
    assert await world.store.get_watermark(5) is None
    for _ in range(12):
        await world.drain()
        await world.clock.advance(MINUTE)
    assert await world.store.get_watermark(5) is not None


async def test_the_shards_that_were_left_out_come_first_in_the_next_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.keeping.shard_sweep.MAX_LEASES_IN_MEMORY", 1)
    world = make_world(SweepConfig(concurrency=1, budget=timedelta(seconds=10)))

    async def slow(_operation: str, _call_id: str) -> None:
        await world.clock.sleep(1)

    for number in range(80):
        await world.call(f"call-{number}", age=MINUTE)
    world.graph.faults["*"] = slow
    world.queue.broken = True
    for _ in range(10):
        await world.clock.run(world.keeper.sweep("timer", unless_younger_than=Timing().sweep_fresh_for))
        await world.clock.advance(4 * MINUTE)
    assert all(call.keep_alives for call in world.graph.calls.values())


async def test_a_purge_that_takes_long_is_broken_off(world: World) -> None:
    async def hang(*_: object) -> int:
        await asyncio.sleep(60)
        return 1

    world.store.purge = hang  # type: ignore[method-assign, assignment] # each of its requests takes long
    world.keeper = Keeper(
        world.store,
        Renewer(world.store, world.graph, world.queue, world.clock, Timing()),
        world.clock,
        SweepConfig(budget=timedelta(milliseconds=20)),
    )
    tally = await asyncio.wait_for(world.keeper.sweep("timer"), 10)
    assert tally.purged == 0


async def test_a_purge_that_fails_is_no_shard_that_was_not_swept(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """It can wait; the alert on shards that are not swept must not tell of it."""

    async def fail(*_: object) -> int:
        raise StoreUnavailable("Table Storage does not answer.")

    world.store.purge = fail  # type: ignore[method-assign, assignment] # storage is away after the sweep
    tally = await world.clock.run(world.keeper.sweep("timer"))
    assert (tally.skipped, tally.failed) == (0, 0)
    assert caplog.text.count("keep_alive.purge.failed") == SHARDS
    assert "keep_alive.shard.failed" not in caplog.text


async def test_a_watermark_of_the_future_silences_nobody(world: World) -> None:
    for number in range(32):
        await world.call(f"call-{number}", age=10 * MINUTE)
    ahead = world.clock.now() + timedelta(hours=3)
    for shard in range(SHARDS):
        await world.store.put_watermark(shard, Watermark(ahead, ahead))
    await world.store.put_watchdog_state(WatchdogState(ahead, ahead))

    await world.clock.run(world.keeper.handle(Sweep(wake_up="request")))

    assert all(call.keep_alives for call in world.graph.calls.values())
    assert await world.store.get_watermark(5) == Watermark(world.clock.now(), world.clock.now(), 4)


@pytest.mark.parametrize("wake_up", ["operator", "timer"])
async def test_an_operators_sweeps_leave_no_further_switches(world: World, wake_up: str) -> None:
    for _ in range(4):
        other = Keeper(
            world.store,
            Renewer(world.store, world.graph, world.queue, world.clock, Timing()),
            world.clock,
            SweepConfig(),
        )
        await world.clock.run(other.sweep(wake_up))
        await world.clock.advance(4 * MINUTE)
    switches = [message for _, message in world.queue.waiting() if isinstance(message, Sweep)]
    assert len(switches) == (1 if wake_up == "operator" else 4)


async def test_what_hangs_beyond_the_budget_is_broken_off_and_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.keeping.renewal_pass.CANCEL_GRACE", timedelta(milliseconds=50))
    world = make_world(SweepConfig(concurrency=4, budget=timedelta(milliseconds=50)))
    ids = [call_id for call_id in map("call-{}".format, range(100)) if shard_of(call_id) == 5]
    for call_id in ids:
        await world.call(call_id, age=10 * MINUTE)

    async def hang(*_: str) -> None:
        await asyncio.sleep(60)

    world.graph.faults[ids[1]] = hang
    tally = await asyncio.wait_for(world.keeper.sweep("timer"), 10)

    assert (tally.renewed, tally.handed_over) == (len(ids) - 1, 1)
    assert await world.store.get_watermark(5) is None
    del world.graph.faults[ids[1]]
    await world.drain()
    assert len(world.graph.calls[ids[1]].keep_alives) == 1
    assert await world.store.get_watermark(5) is not None


async def test_a_shard_whose_pages_come_too_slowly_is_broken_off_and_swept_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shard_module, "CANCEL_GRACE", timedelta(milliseconds=50))
    world = make_world(SweepConfig(budget=timedelta(milliseconds=50)))
    scan = world.store.scan

    async def slow(shard: int) -> AsyncGenerator[Progress | Stored[Watermark] | Lease]:
        if shard == 5:
            await asyncio.sleep(60)
        async for record in scan(shard):
            yield record

    monkeypatch.setattr(world.store, "scan", slow)
    tally = await asyncio.wait_for(world.keeper.sweep("timer"), 10)

    assert tally.failed == 1
    assert SweepShard(shard=5) in [message for _, message in world.queue.waiting()]


async def test_shards_whose_turn_comes_too_late_are_left_to_a_slow_queue_side_by_side() -> None:
    world = make_world(SweepConfig(budget=timedelta()))
    send, in_flight, most = world.queue.send, 0, 0

    async def slow(message: WakeUp, delay: timedelta = timedelta()) -> None:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await world.clock.sleep(9)
        in_flight -= 1
        await send(message, delay)

    world.queue.send = slow  # type: ignore[method-assign] # slow
    tally = await world.clock.run(world.keeper.sweep("timer"))

    assert (tally.handed_over, most) == (SHARDS, SHARDS)


async def test_a_purge_goes_on_until_nothing_is_left_and_then_rests_for_an_hour(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.keeping.keeper.PURGE_BATCH_SIZE", 2)
    left, asked = [2, 2, 1], 0

    async def purge(shard: int, _before: datetime, _limit: int) -> int:
        nonlocal asked
        asked += 1
        return left.pop(0) if left and shard == 3 else 0

    world.store.purge = purge  # type: ignore[method-assign, assignment] # counts
    tally = await world.sweep()
    assert (getattr(tally, "purged", None), asked) == (5, SHARDS + 2)
    await world.clock.advance(15 * MINUTE)
    await world.sweep()
    assert asked == SHARDS + 2
    await world.clock.advance(46 * MINUTE)
    await world.sweep()
    assert asked == 2 * SHARDS + 2


async def test_outside_of_sweeps_too_a_tenant_that_has_to_wait_is_not_asked(world: World) -> None:
    await world.call("first", age=10 * MINUTE)
    await world.call("second", age=40 * MINUTE)
    world.graph.faults["first"] = raising(GraphThrottled("429", status=429, retry_after=120))
    renewer = Renewer(world.store, world.graph, world.queue, world.clock, Timing())
    for call_id in ("first", "second"):
        await world.clock.run(renewer.renew((await world.record(call_id)).lease, None, swept=False))
    failing = (await world.record("second")).failing
    assert world.graph.requests["keepAlive"] == 1
    assert failing
    assert (failing.reason, failing.status) == ("throttled", 429)
    assert 2 * MINUTE <= failing.retry_at - world.clock.now() < 2.5 * MINUTE
