"""Claims on lanes: a worker that was too slow changes nothing that belongs to the next one."""

from dataclasses import replace

import pytest

from shared.domain.deliveries import Attempt, Delivery, DeliveryStatus, Lane
from shared.errors import StoreUnavailable
from shared.relay.lanes import CLAIM, Lanes
from shared.storage.stored import Stored
from tests.support.relaying import MINUTE, SECOND, World, item


async def claimed(world: World) -> tuple[Stored[Delivery], Stored[Lane], Lanes]:
    """A pending delivery, and its lane with the claim of this worker."""
    world.bot.replies = [500]
    await world.notify(item("call"))
    outbox = world.process.outbox
    stored = await outbox.get("call", (await world.deliveries("call"))[0].sequence)
    assert stored
    lane = await outbox.get_lane(stored.value.lane)
    assert lane
    mine = await outbox.put_lane(lane, replace(lane.value, claim_id="mine", claimed_until=world.clock.now() + CLAIM))
    return stored, mine, Lanes(outbox, world.process.queue, world.clock)


async def take_over(world: World, lane: Stored[Lane]) -> Stored[Lane]:
    """Let another worker claim the lane."""
    until = world.clock.now() + CLAIM
    return await world.process.outbox.put_lane(lane, replace(lane.value, claim_id="theirs", claimed_until=until))


def after(world: World, stored: Stored[Delivery], status: DeliveryStatus) -> Delivery:
    """The delivery after another attempt."""
    attempts = (*stored.value.attempts, Attempt(world.clock.now(), 202))
    body = None if status is DeliveryStatus.DELIVERED else stored.value.body
    return replace(stored.value, status=status, attempts=attempts, body=body, next_attempt_at=None)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (DeliveryStatus.DELIVERED, DeliveryStatus.DELIVERED),
        (DeliveryStatus.DEAD, DeliveryStatus.PENDING),
        (DeliveryStatus.PENDING, DeliveryStatus.PENDING),
    ],
    ids=["delivered: it is stored", "dead: the other worker decides", "pending: likewise"],
)
async def test_a_result_after_the_claim_was_lost(status: DeliveryStatus, expected: DeliveryStatus) -> None:
    world = World()
    stored, mine, lanes = await claimed(world)
    theirs = await take_over(world, mine)
    assert await lanes.settle(stored, mine, after(world, stored, status), is_last=True) is None
    assert await world.process.outbox.get_lane(stored.value.lane) == theirs
    assert [each.status for each in await world.deliveries("call")] == [expected]


async def test_the_next_worker_goes_on_behind_a_result_that_the_slow_one_stored() -> None:
    world = World()
    stored, mine, lanes = await claimed(world)
    theirs = await take_over(world, mine)
    await lanes.settle(stored, mine, after(world, stored, DeliveryStatus.DELIVERED), is_last=True)
    assert await lanes.settle(stored, theirs, after(world, stored, DeliveryStatus.DEAD), is_last=False) == theirs
    assert [each.status for each in await world.deliveries("call")] == [DeliveryStatus.DELIVERED]


async def test_a_lane_of_another_worker_is_neither_released_nor_closed() -> None:
    world = World()
    stored, mine, lanes = await claimed(world)
    theirs = await take_over(world, mine)
    await lanes.release(mine, world.clock.now() + MINUTE)
    assert await lanes.close(mine) is None
    assert await world.process.outbox.get_lane(stored.value.lane) == theirs


async def test_a_claim_holds_until_its_end() -> None:
    world = World()
    stored, _, _ = await claimed(world)
    world.clock.time += CLAIM - SECOND
    await world.process.deliverer.work(stored.value.lane)
    assert len(world.bot.received) == 1
    world.clock.time += SECOND
    await world.process.deliverer.work(stored.value.lane)
    assert await world.log("call") == [("delivered", [500, 202])]


async def test_a_lane_that_too_many_write_is_left_to_a_look() -> None:
    world = World()
    stored, mine, lanes = await claimed(world)

    async def append(*_: object, **__: object) -> Stored[Lane] | None:
        found = await original(stored.value.lane)
        assert found
        await world.start_process().outbox.put_lane(found, replace(found.value, appended=found.value.appended + 1))
        return found  # with an ETag that is old already

    outbox = world.process.outbox
    original = outbox.get_lane
    outbox.get_lane = append  # type: ignore[method-assign] # another writer is always faster
    await append()
    with pytest.raises(StoreUnavailable):
        await lanes.settle(stored, mine, after(world, stored, DeliveryStatus.DELIVERED), is_last=True)
