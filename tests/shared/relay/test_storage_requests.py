"""The requests to storage that a notification costs: with a healthy bot the relay adds one transaction."""

import pytest
from pydantic import JsonValue

from shared.relay.breaker import CACHE_TTL
from tests.support.relaying import SECOND, World, item

CALL = "57dab8b1-894c-409a-b240-bd8beae78896"


def roster() -> dict[str, JsonValue]:
    path = f"/communications/calls/{CALL}/participants"
    return {"changeType": "updated", "resource": path, "resourceUrl": path, "resourceData": [{"id": "1"}]}


@pytest.mark.parametrize(
    ("notification", "without", "with_relay"),
    [
        # The relay adds the write that deletes what was delivered. The delivery is part of the call's own transaction.
        pytest.param(item(CALL, "established"), {"read": 1, "write": 1}, {"read": 1, "write": 1 + 1}, id="changing"),
        # Without the relay nothing is written, so the relay adds the transaction that stores the delivery too.
        pytest.param(item(CALL, "establishing"), {"read": 1 + 1}, {"read": 1 + 1, "write": 1 + 1}, id="repeated"),
        pytest.param(roster(), {"read": 1}, {"read": 1, "write": 1 + 1}, id="roster"),
    ],
)
async def test_a_healthy_delivery_adds_one_write_to_that_of_the_notification(
    notification: dict[str, JsonValue], without: dict[str, int], with_relay: dict[str, int]
) -> None:
    for world, expected in ((World(without_relay=True), without), (World(), with_relay)):
        await world.notify(item(CALL, "establishing"))
        world.process.table.requests.clear()
        await world.notify(notification)
        assert world.process.table.requests == expected
        assert len(world.bot.received) == (2 if world.targets else 0)
        assert world.queue.messages == []


async def test_the_states_of_destinations_are_read_once_in_half_a_minute() -> None:
    world = World()
    for _ in range(10):
        await world.notify(roster())
    requests = world.process.table.requests
    once = requests["pages"]
    assert once > 0

    world.clock.time += CACHE_TTL - SECOND
    await world.notify(roster())
    assert requests["pages"] == once
    world.clock.time += SECOND
    await world.notify(roster())
    assert requests["pages"] == 2 * once
