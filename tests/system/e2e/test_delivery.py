"""Dozens of notifications are doubled, late, out of order or lost: each end gets a reason, and stays."""

from collections.abc import Iterator

import pytest

from local.stack.stack import Options
from soak.real.world import World, running

pytestmark = pytest.mark.timeout(180)

SPEED = 120  # a lease is 22.5 s
MINUTE = 60  # in simulated seconds
ENDS = ((200, 5001), (200, 5010), (403, 5300), (408, 10057), (500, 7000), (487, 10003))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with running(Options(speed=SPEED, schedule="*/7 * * * * *")) as world:
        yield world


def test_each_end_gets_a_reason_and_none_is_undone(world: World) -> None:
    world.set_delivery(loss=0.2, duplicate=0.5, reorder=0.5, reorderSeconds=5 * MINUTE, delaySeconds=30, batch=4)
    calls = [world.begin_and_register() for _ in range(30)]
    ended = dict(zip(calls[:20], 4 * ENDS, strict=False))
    for call_id, codes in ended.items():
        world.end(call_id, *codes)
    world.wait_until(lambda: all(world.termination(call_id) for call_id in ended))
    world.wait_until(lambda: not any(_on_the_way(world, call_id) for call_id in ended))

    for call_id, codes in ended.items():
        end, last = world.termination(call_id), world.simulated_call(call_id).notifications[-1]
        assert end is not None
        assert end.reason
        if last.acknowledged:
            assert (end.code, end.subcode) == codes
        else:
            assert (end.source, end.code) == ("keepAliveNotFound", None)
    assert 0 < sum(world.simulated_call(call_id).notifications[-1].lost for call_id in ended) < len(ended)

    ends = [world.termination(call_id) for call_id in ended]
    for call_id in ended:  # an old notification arrives again, and changes nothing
        for notification in world.simulated_call(call_id).notifications[:-1]:
            world.control("POST", f"/calls/{call_id}/notify", {"notificationId": notification.id})
    world.wait_until(lambda: not any(_on_the_way(world, call_id) for call_id in ended))
    assert [world.termination(call_id) for call_id in ended] == ends
    assert {known.status for call_id in ended if (known := world.stored_call(call_id))} == {"ended"}

    living = calls[20:]
    world.wait_until(lambda: all(call.keep_alives for call in world.simulated_calls(living)))
    assert not any(call.over for call in world.simulated_calls(living))


def _on_the_way(world: World, call_id: str) -> bool:
    """Return True if a notification that is not lost is not accepted yet."""
    return any(not one.lost and not one.acknowledged for one in world.simulated_call(call_id).notifications)
