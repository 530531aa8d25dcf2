"""Two hosts on one storage. Both timers fire, though Azure fires one: work done twice does no harm."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from local.stack.stack import Options
from soak.real.world import World, running

pytestmark = pytest.mark.timeout(180)

SPEED = 120  # a lease is 22.5 s
LEASE = timedelta(minutes=45)
REAL_SECOND = SPEED  # in simulated seconds
OPTIONS = Options(SPEED, schedule="*/4 * * * * *", keep_storage=True, settings={"GRAPH_TIMEOUT": "PT3S"})


@pytest.fixture(scope="module")
def _world() -> Iterator[World]:
    with running(OPTIONS) as world:
        world.stack.add_host()
        yield world
        for host in world.stack.hosts:
            host.child.kill()  # faster than a clean stop


@pytest.fixture
def world(_world: World) -> Iterator[World]:
    yield _world
    _world.reset()


def test_both_hosts_sweep_and_each_end_is_recorded_once(world: World) -> None:
    calls = [world.begin(host=number % 2) for number in range(40)]
    for number, call_id in enumerate(calls):
        assert world.request("PUT", f"/calls/{call_id}", {"tenantId": world.tenant}, host=1 - number % 2).is_success
    world.set_delivery(duplicate=0.5)
    since = world.simulated_now()
    world.wait_until(lambda: all("timer" in dict(world.sweeps(host)) for host in (0, 1)))
    for call_id in calls[:20]:
        world.end(call_id, 200, 5010)
    world.wait_until(lambda: all(world.ended_with(call_id) == (200, 5010) for call_id in calls[:20]))

    _are_renewed(world, calls[20:], since)
    for call_id in calls[:20]:  # one event, or none if the notification came before a sweep
        assert [event.kind for event in world.events(call_id)].count("ended") <= 1
    listed = [call["id"] for call in world.request_ok("GET", "/calls?status=ended&limit=100").json()["value"]]
    assert sorted(set(listed)) == sorted(listed)
    assert set(calls[:20]) == set(calls) & set(listed)


def test_a_host_killed_with_many_keep_alives_in_flight_loses_no_call(world: World) -> None:
    calls = [world.begin(host=1) for _ in range(120)]
    world.wait_until(lambda: all(call.keep_alives for call in world.simulated_calls(calls)))
    slow = world.fault(operation="keepAlive", delaySeconds=REAL_SECOND)
    world.wait_until(lambda: world.count_hits(slow) > 10)
    world.stack.host.kill()
    world.clear_faults()
    at = world.simulated_now()
    world.stack.start_host()
    _are_renewed(world, calls, at)


def test_a_restart_of_storage_in_a_sweep_loses_no_call(world: World) -> None:
    ending, *calls = [world.begin() for _ in range(50)]
    world.wait_until(lambda: all(call.keep_alives for call in world.simulated_calls(calls)))
    slow = world.fault(operation="keepAlive", delaySeconds=0.3 * REAL_SECOND)
    world.wait_until(lambda: world.count_hits(slow) > 5)
    with world.storage_stopped():
        world.clear_faults()
        world.end(ending, 200, 5010)
        assert world.request("GET", "/health").json()["status"] == "unhealthy"
    _are_renewed(world, calls)
    world.wait_until(lambda: world.termination(ending))


def test_graph_away_for_a_third_of_a_lease_loses_no_call(world: World) -> None:
    calls = [world.begin() for _ in range(20)]
    world.wait_until(lambda: all(call.keep_alives for call in world.simulated_calls(calls)))
    away = world.fault(status=503)
    world.wait_until(lambda: world.count_hits(away))
    since = world.simulated_now()
    world.wait_until(lambda: world.simulated_now() - since > LEASE / 3)
    world.clear_faults()
    _are_renewed(world, calls)


def _are_renewed(world: World, calls: list[str], since: datetime | None = None) -> None:
    """Wait until each call was renewed after `since`, or after now. None may end."""
    begun = since or world.simulated_now()

    def renewed() -> bool:
        seen = world.simulated_calls(calls)
        assert [(call.id, call.code, call.subcode) for call in seen if call.over] == []
        return all(call.lease.renewed_at > begun for call in seen)

    world.wait_until(renewed)
