"""Replays and enablings that are interrupted, or that happen at the same time, on the memory store."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from shared.api.continuation_tokens import ContinuationSigner
from shared.api.deliveries import SECOND_LOOK, Deliveries
from shared.api.records import Records
from shared.config.apps import Apps, BotApp
from shared.config.relay_targets import RelayTarget, RelayTargets
from shared.domain.deliveries import Delivery, DeliveryStatus, Destination, LaneKey
from shared.domain.leases import Timing
from shared.errors import DeliveryNotFound, DeliveryNotReplayable, StoreConflict, StoreUnavailable
from shared.relay.breaker import Destinations
from shared.relay.reopening import Reopening
from shared.relay.schedule import Schedule
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.outbox import OutboxStore
from shared.storage.relay_queue import Deliver, Look, RelayMessage
from shared.storage.store import CallStore
from shared.storage.table import Write
from tests.support.deliveries import APP, BOT, make_delivery, store_deliveries
from tests.support.stores import NOW, SECOND, YieldingTable
from tests.support.virtual import VirtualClock

TARGETS = RelayTargets((RelayTarget(name="bot", url="https://bot.example/in", format="graph", appId=APP),), APP)
APPS = Apps((BotApp.model_construct(app_id=APP, credential="managedIdentity"),))


class DyingTable(YieldingTable):
    """A table whose process dies: it writes `left` times, and then no more. None: it lives."""

    left: int | None = None

    async def write(self, shard: int, writes: Sequence[Write]) -> tuple[str, ...]:
        if self.left is not None:
            if self.left == 0:
                raise StoreUnavailable("The process has died (test).")
            self.left -= 1
        return await super().write(shard, writes)


@dataclass
class RecordingQueue:
    sent: list[tuple[RelayMessage, timedelta]] = field(default_factory=list)
    broken: bool = False

    async def send(self, message: RelayMessage, delay: timedelta = timedelta()) -> None:
        if self.broken:
            raise StoreUnavailable("Queue Storage refused a message (test).")
        self.sent.append((message, delay))


@dataclass
class World:
    """The parts of a process. `table` is what all processes share."""

    table: DyingTable = field(default_factory=DyingTable)
    queue: RecordingQueue = field(default_factory=RecordingQueue)
    clock: VirtualClock = field(default_factory=VirtualClock)

    def __post_init__(self) -> None:
        timing = Timing()
        self.outbox = OutboxStore(self.table)
        self.destinations = Destinations(self.outbox, self.clock, Schedule(timing, Random(7)))
        store = CallStore(self.table)
        queue: Any = self.queue
        self.deliveries = Deliveries(
            Records(store, self.clock, timing, ContinuationSigner(store)),
            self.outbox,
            Reopening(self.outbox, self.destinations, self.clock),
            self.destinations,
            TARGETS,
            BestEffortQueue(queue, self.clock, timing),
            APPS,
            timedelta(days=7),
        )

    async def statuses(self, call_id: str = "call") -> list[str]:
        return [each.status.value for each in await self.outbox.list_of_call(call_id)]

    async def pending(self, call_id: str = "call") -> list[int]:
        """Return the sequences of the lane of a call, as a worker attempts them."""
        lane = LaneKey(call_id, BOT)
        assert await self.outbox.get_lane(lane) is not None
        return [entry.value.sequence for entry in await self.outbox.pending_of_lane(lane)]


@pytest.fixture
def world() -> World:
    return World()


def held(number: int, call_id: str = "call") -> list[Delivery]:
    return [make_delivery(call_id, at=NOW + SECOND * each, status=DeliveryStatus.DISABLED) for each in range(number)]


@pytest.mark.parametrize("writes", range(5))  # three deliveries and the destination need four
async def test_an_enabling_that_died_anywhere_is_completed_by_the_next_one(world: World, writes: int) -> None:
    deliveries = held(3)
    await store_deliveries(world.outbox, *deliveries)
    await world.destinations.record_gone(BOT)
    world.table.left = writes
    if writes < 4:
        with pytest.raises(StoreUnavailable):
            await world.deliveries.enable("bot")
    else:
        assert await world.deliveries.enable("bot") == 3
    another = World(world.table)
    another.table.left = None
    assert await another.deliveries.enable("bot") == 3 - min(writes, 3)
    assert await another.pending() == [each.sequence for each in deliveries]
    assert await another.outbox.get_destinations() == {}
    assert [each.is_replay for each in await another.outbox.list_of_call("call")] == [False] * 3


async def test_nothing_is_attempted_before_the_target_is_on(world: World) -> None:
    await store_deliveries(world.outbox, *held(2))
    await world.destinations.record_gone(BOT)
    await world.deliveries.enable("bot")
    assert world.queue.sent == [(Look(target="bot"), SECOND_LOOK), (Look(target="bot"), timedelta())]


async def test_what_was_held_is_pending_before_the_target_is_on_and_what_is_held_meanwhile_afterwards(
    world: World,
) -> None:
    """A notification that found the target on, and its lane without what was held, would overtake it."""
    *before, meanwhile = held(3)
    await store_deliveries(world.outbox, *before)
    await world.destinations.record_gone(BOT)
    enable = world.destinations.enable

    async def enabling(target: str) -> None:
        assert await world.statuses() == ["pending", "pending"]
        await store_deliveries(world.outbox, meanwhile)
        await enable(target)

    world.destinations.enable = enabling  # type: ignore[method-assign] # for this test
    assert await world.deliveries.enable("bot") == 3
    assert await world.statuses() == ["pending"] * 3


async def test_an_enabling_without_the_queue_changes_nothing(world: World) -> None:
    await store_deliveries(world.outbox, *held(1))
    await world.destinations.record_gone(BOT)
    world.queue.broken = True
    with pytest.raises(StoreUnavailable):
        await world.deliveries.enable("bot")
    assert await world.statuses() == ["disabled"]


async def test_only_the_destinations_of_the_target_are_enabled(world: World) -> None:
    other = Destination("other", "instance-1")
    for destination in (BOT, Destination("bot", "instance-2"), other):
        await world.destinations.record_gone(destination)
    await world.deliveries.enable("bot")
    assert set(await world.outbox.get_destinations()) == {other}


async def test_an_enabling_leaves_a_rest_and_an_open_breaker(world: World) -> None:
    await world.destinations.record_rest(BOT, timedelta(minutes=5))
    await world.deliveries.enable("bot")
    assert set(await world.outbox.get_destinations()) == {BOT}


async def test_what_is_held_without_a_body_stays_held(world: World) -> None:
    (kept,) = held(1)
    await store_deliveries(world.outbox, replace(kept, body=None))
    assert await world.deliveries.enable("bot") == 0
    assert await world.statuses() == ["disabled"]


@pytest.mark.parametrize("writes", range(6))  # five calls need five
async def test_a_span_that_died_anywhere_is_completed_by_the_next_request(world: World, writes: int) -> None:
    ids = [f"call-{number}" for number in range(5)]
    await store_deliveries(world.outbox, *(make_delivery(call_id) for call_id in ids))
    world.table.left = writes
    if writes < 5:
        with pytest.raises(StoreUnavailable):
            await world.deliveries.replay_span("bot", NOW, NOW, force=False)
    world.table.left = None
    await world.deliveries.replay_span("bot", NOW, NOW, force=False)
    assert [await world.statuses(call_id) for call_id in ids] == [["pending"]] * 5


async def test_a_span_wakes_each_lane_once_after_all_are_pending(world: World) -> None:
    deliveries = [make_delivery(f"call-{each % 2}", at=NOW + SECOND * each) for each in range(6)]
    await store_deliveries(world.outbox, *reversed(deliveries))
    assert await world.deliveries.replay_span("bot", NOW, NOW + SECOND * 9, force=False) == 6
    woken = [message.call_id for message, _ in world.queue.sent if isinstance(message, Deliver)]
    assert sorted(woken) == ["call-0", "call-1"]
    assert await world.pending("call-0") == [each.sequence for each in deliveries[::2]]


async def test_of_two_replays_at_the_same_time_one_is_refused(world: World) -> None:
    (dead,) = held(1)
    await store_deliveries(world.outbox, dead)
    results = await asyncio.gather(
        *(world.deliveries.replay(dead.id, force=False) for _ in range(8)), return_exceptions=True
    )
    assert sum(isinstance(result, Delivery) for result in results) == 1
    assert sum(isinstance(result, DeliveryNotReplayable | DeliveryNotFound) for result in results) == 7
    assert len(world.queue.sent) == 1


async def test_notifications_that_join_the_lane_do_not_stop_a_replay(world: World) -> None:
    """Each of them changes the ETag of the lane, so the replay reads it again."""
    (dead,) = held(1)
    await store_deliveries(world.outbox, dead)
    write, conflicts = world.table.write, iter(range(5))

    async def contested(shard: int, writes: Sequence[Write]) -> tuple[str, ...]:
        if next(conflicts, None) is not None:
            raise StoreConflict("A notification joined the lane (test).")
        return await write(shard, writes)

    world.table.write = contested  # type: ignore[method-assign] # for this test
    await world.deliveries.replay(dead.id, force=False)
    assert await world.statuses() == ["pending"]


async def test_a_delivery_that_is_purged_meanwhile_is_not_found(world: World) -> None:
    (dead,) = held(1)
    await store_deliveries(world.outbox, dead)
    found = await world.outbox.find(dead.id)
    assert found is not None

    async def purged(delivery_id: str) -> object:  # noqa: ARG001 (the signature of `find`)
        world.table._partitions.clear()
        return found

    world.outbox.find = purged  # type: ignore[method-assign, assignment] # for this test
    with pytest.raises(DeliveryNotFound):
        await world.deliveries.replay(dead.id, force=False)
