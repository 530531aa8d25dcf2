"""A timer that never fires: the queue alone keeps calls alive, and each failing call has its own retry message."""

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from azure.storage.queue import QueueClient

from local.stack.stack import Options
from soak.real.world import World, running

pytestmark = pytest.mark.timeout(180)

SPEED = 180  # a lease is 15 s; the watchdog fires after 7 s
LEASE = timedelta(minutes=45)
OTHER_TENANT = "0d3f6a1e-52c7-4b9d-8e4a-6f1b2c3d4e5f"


@pytest.fixture(scope="module")
def _world() -> Iterator[World]:
    with running(Options(speed=SPEED, schedule="0 0 0 1 1 *", settings={"GRAPH_TIMEOUT": "PT3S"})) as world:
        yield world


@pytest.fixture
def world(_world: World) -> Iterator[World]:
    yield _world
    _world.reset()


def test_failing_calls_are_retried_by_messages_until_graph_is_back(world: World) -> None:
    calls = [world.begin_and_register(tenant=tenant) for tenant in 2 * [OTHER_TENANT] + 4 * [world.tenant]]
    troubles: list[dict[str, object]] = [
        {"status": 429, "retryAfter": 1.5},
        {"status": 429, "retryAfter": 0.5},
        {"status": 500},
        {"status": 503},
        {"dropConnection": True},
        {"status": 403, "subcode": 7505},
    ]
    for call_id, trouble in zip(calls, troubles, strict=True):
        world.fault(operation="keepAlive", callId=call_id, **trouble)
    world.request_ok("POST", "/keep-alive")
    reasons = [world.failing(call_id) for call_id in calls]
    assert reasons == ["throttled", "throttled", "unavailable", "unavailable", "unavailable", "forbidden"]

    world.clear_faults()
    swept = sum(renewed for _, renewed in world.sweeps())
    before = {call.id: call.keep_alives for call in world.simulated_calls(calls)}
    world.wait_until(lambda: not any(world.failing(call_id) for call_id in calls))
    after = world.simulated_calls(calls)
    # On a slow machine the requests of this test may find a stale shard and start a sweep, which does not count.
    assert sum(call.keep_alives - before[call.id] for call in after) > sum(done for _, done in world.sweeps()) - swept
    for call in after:
        assert call.keep_alives > before[call.id]
        assert "keepAliveRecovered" in {event.kind for event in world.events(call.id)}


def test_a_throttled_tenant_gets_no_request_until_retry_after(world: World) -> None:
    calls = [world.begin_and_register(shard=shard, tenant=OTHER_TENANT) for shard in range(8)]
    world.fault(operation="keepAlive", callId=calls[0], status=429, retryAfter=2, count=1)
    world.request_ok("POST", "/keep-alive")

    asked = [one for one in world.requests_to_graph("keepAlive") if one.call_id in calls]
    throttled = next(one.at for one in asked if one.status == 429)
    after = [(one.at - throttled) / SPEED for one in asked if one.at > throttled]
    # Requests in flight may still arrive. Retry-After is 2 s, of which the clocks may differ by 0.1 s.
    under_way, later = timedelta(seconds=0.7), timedelta(seconds=2 - 0.1)
    assert not [pause for pause in after if under_way < pause < later]
    assert [pause for pause in after if pause >= later]
    assert {one.call_id for one in asked if one.status == 200} == set(calls)


def test_the_watchdog_alone_keeps_calls_alive(world: World) -> None:
    calls = [world.begin_and_register() for _ in range(5)]
    world.request_ok("POST", "/keep-alive")  # this sweep arms the first watchdog
    world.wait_until(lambda: "operator" in dict(world.sweeps()))  # its log line may come after the answer
    since = world.simulated_now()
    before = len(world.sweeps())

    # no request, no notification, no timer
    world.wait_until(lambda: all(world.simulated_call(one).keep_alive_times[-1] - since > LEASE for one in calls))
    assert not any(call.over for call in world.simulated_calls(calls))
    assert {wake_up for wake_up, renewed in world.sweeps()[before:] if renewed} == {"watchdog"}


def test_a_request_that_finds_a_stale_shard_starts_a_sweep(world: World) -> None:
    call_id = world.begin_and_register()
    world.request_ok("POST", "/keep-alive")
    with QueueClient.from_connection_string(world.stack.storage.connection_string, "keep-alive") as queue:
        world.wait_until(lambda: queue.get_queue_properties().approximate_message_count)
        swept = -1
        while swept != len(world.sweeps()):  # a sweep in progress has armed another watchdog
            swept = len(world.sweeps())
            queue.clear_messages()
            time.sleep(1)  # three simulated minutes
        queue.clear_messages()  # the watchdog's message is lost
    before, since = len(world.sweeps()), world.simulated_now()

    world.wait_until(lambda: world.simulated_now() - since > timedelta(minutes=22))
    assert world.sweeps()[before:] == []
    world.wait_until(lambda: world.stored_call(call_id) and world.sweeps()[before:])
    assert world.sweeps()[before][0] == "request"
    assert not world.simulated_call(call_id).over
