"""Storage or Graph is away for a while: what was acknowledged is kept, and the rest is repeated."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from local.stack.stack import APP_ID, Options
from soak.real.world import Attempt, World, running

pytestmark = pytest.mark.timeout(180)

SPEED = 60  # a lease is 45 s: an outage of storage lasts as long as the SDK's timeout, which is real time
REAL_SECOND = SPEED  # in simulated seconds


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with running(Options(speed=SPEED, schedule="*/8 * * * * *", settings={"GRAPH_TIMEOUT": "PT3S"})) as world:
        yield world


def test_an_outage_of_storage_loses_nothing_and_acknowledges_nothing(world: World) -> None:
    ending, kept = [world.begin_and_register() for _ in range(4)], [world.begin_and_register() for _ in range(8)]
    world.wait_until(lambda: all(call.keep_alives for call in world.simulated_calls(kept)))
    world.set_delivery(attempts=10, retrySeconds=2 * REAL_SECOND)
    with world.storage_outage(), ThreadPoolExecutor() as pool:
        for call_id in ending:
            world.end(call_id, 200, 5010)
        asked, notified = pool.submit(world.request, "GET", "/health"), pool.submit(_notify, world, ending[0])
        health, webhook = asked.result(60), notified.result(60)
        answers = [attempt.status for call_id in ending for attempt in _last(world, call_id)]
    assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
    assert webhook.status_code == 503
    assert int(webhook.headers["Retry-After"]) > 0
    assert httpx.codes.ACCEPTED not in answers

    world.wait_until(lambda: all(world.ended_with(call_id) == (200, 5010) for call_id in ending))
    world.wait_until(lambda: world.request("GET", "/health").json()["status"] == "healthy")
    back, before = world.simulated_now(), {call.id: call.keep_alives for call in world.simulated_calls(kept)}
    world.wait_until(lambda: all(call.keep_alives > before[call.id] for call in world.simulated_calls(kept)))
    for call in map(world.simulated_call, kept):
        assert not call.over
        assert call.keep_alive_times[-1] > back


def test_calls_are_retried_during_an_outage_of_graph(world: World) -> None:
    calls = [world.begin_and_register() for _ in range(10)]
    world.fault(operation="keepAlive", dropConnection=True, probability=0.3)
    world.fault(operation="keepAlive", status=503)
    world.wait_until(lambda: all(world.failing(call_id) for call_id in calls))
    world.clear_faults()
    world.wait_until(lambda: not any(world.failing(call_id) for call_id in calls))
    assert not any(call.over for call in world.simulated_calls(calls))
    for call_id in calls:
        assert {"keepAliveFailing", "keepAliveRecovered"} <= {event.kind for event in world.events(call_id)}


def _notify(world: World, call_id: str) -> httpx.Response:
    """Send a notification as Graph does, and return the webhook's response."""
    wanted = {"kind": "notification", "appId": APP_ID, "tenantId": world.tenant}
    token = world.control("POST", "/tokens", wanted).json()["token"]
    item = {
        "changeType": "updated",
        "resourceUrl": f"/communications/calls/{call_id}",
        "resourceData": {"@odata.type": "#microsoft.graph.call", "state": "established"},
    }
    url = f"{world.stack.api}/notifications"
    return httpx.post(url, json={"value": [item]}, headers={"Authorization": f"Bearer {token}"}, timeout=30)


def _last(world: World, call_id: str) -> list[Attempt]:
    return world.simulated_call(call_id).notifications[-1].attempts
