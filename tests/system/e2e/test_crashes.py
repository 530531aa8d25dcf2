"""The host is killed in the middle of its work, and started again on the same storage: nothing is lost."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx
import pytest
from azure.data.tables import TableClient, UpdateMode

from local.stack.stack import Options
from shared.api.idempotency import IN_PROGRESS_TIMEOUT
from soak.real.world import World, running

pytestmark = pytest.mark.timeout(180)

SPEED = 120  # a lease is 22.5 s
OPTIONS = Options(speed=SPEED, schedule="*/7 * * * * *", settings={"GRAPH_TIMEOUT": "PT8S"})
REAL_SECOND = SPEED  # in simulated seconds


@pytest.fixture(scope="module")
def _world() -> Iterator[World]:
    with running(OPTIONS) as world:
        yield world


@pytest.fixture
def world(_world: World) -> Iterator[World]:
    yield _world
    _world.reset()


def test_a_host_killed_in_a_sweep_loses_no_call_and_no_failure(world: World) -> None:
    gone, failing = world.begin_and_register(shard=0), world.begin_and_register(shard=1)
    kept = [world.begin_and_register(shard=shard) for shard in range(2, 16)]
    world.wait_until(lambda: all(call.keep_alives for call in world.simulated_calls([gone, failing, *kept])))
    _wait_for_a_sweep(world)
    world.forget(gone)
    world.fault(operation="keepAlive", callId=failing, status=503)
    began = world.simulated_now()
    slow = world.fault(operation="keepAlive", callId=kept[-1], delaySeconds=6 * REAL_SECOND)
    world.wait_until(lambda: world.count_hits(slow) and world.termination(gone) and world.failing(failing))
    end, noted = world.termination(gone), {event.kind for event in world.events(failing)}

    world.stack.host.kill()
    at, simulated_at = datetime.now(UTC), world.simulated_now()
    assert world.simulated_call(kept[-1]).keep_alive_times[-1] < began  # it was under way
    world.clear_faults()
    world.stack.start_host()

    assert end is not None
    assert end.source == "keepAliveNotFound"
    assert world.termination(gone) == end
    assert {"keepAliveFailing"} <= noted <= {event.kind for event in world.events(failing)}
    world.wait_until(lambda: all(_renewed_at(world, call_id) > at for call_id in kept))  # proved by new watermarks
    world.wait_until(lambda: not world.failing(failing))
    for call in (world.simulated_call(call_id) for call_id in (failing, *kept)):
        assert call.keep_alive_times[-1] > simulated_at
        assert not call.over


def test_a_host_killed_in_a_hang_up_still_learns_of_the_end(world: World) -> None:
    notified, unnotified = world.begin_and_register(), world.begin_and_register()
    world.set_delivery(callId=notified, attempts=10, retrySeconds=REAL_SECOND)
    world.set_delivery(callId=unnotified, loss=1)
    slow = world.fault(operation="delete", delaySeconds=1.5 * REAL_SECOND)
    with ThreadPoolExecutor() as pool:
        requests = [pool.submit(_without_an_answer, world, f"/calls/{one}/hangup") for one in (notified, unnotified)]
        world.wait_until(lambda: world.count_hits(slow) == 2)
        world.stack.host.kill()
        assert all(request.result(30) for request in requests)
    world.wait_until(lambda: all(call.over for call in world.simulated_calls([notified, unnotified])))
    world.stack.start_host()
    assert "hangupRequested" in {event.kind for event in world.events(notified)}
    assert _asked_again(world, f"/calls/{notified}/hangup") == (409, "request-in-progress")
    _age_the_claim(world, notified)
    assert _asked_again(world, f"/calls/{notified}/hangup")[0] in {200, 202}  # it does no harm to do it again

    # A sweep may get a 404 before the notification arrives, which then adds the codes.
    world.wait_until(lambda: world.ended_with(notified) == (200, 5001))
    world.wait_until(lambda: world.termination(unnotified))
    end = world.termination(unnotified)
    assert end is not None
    assert (end.source, end.code) == ("keepAliveNotFound", None)
    assert end.reason


def test_a_host_killed_before_it_stores_a_recording_learns_of_it(world: World) -> None:
    call_id = world.begin_and_register()
    world.set_delivery(callId=call_id, attempts=10, retrySeconds=REAL_SECOND)
    slow = world.fault(operation="recordResponse", delaySeconds=0.5 * REAL_SECOND)
    with ThreadPoolExecutor() as pool:
        request = pool.submit(_without_an_answer, world, f"/calls/{call_id}/record")
        world.wait_until(lambda: world.count_hits(slow) == 1)
        with world.storage_outage():  # so that nothing can be written of Graph's answer
            world.wait_until(lambda: world.simulated_call(call_id).operations)
            world.stack.host.kill()
        assert request.result(30)
    world.stack.start_host()
    assert "recordRequested" in {event.kind for event in world.events(call_id)}
    assert _asked_again(world, f"/calls/{call_id}/record") == (409, "request-in-progress")
    _age_the_claim(world, call_id)
    assert _asked_again(world, f"/calls/{call_id}/record") == (409, "outcome-unknown")
    assert [one.call_id for one in world.requests_to_graph("recordResponse")].count(call_id) == 1

    world.wait_until(lambda: [one.status for one in world.operations(call_id)] == ["completed"])
    assert [one.id for one in world.operations(call_id)] == [one.id for one in world.simulated_call(call_id).operations]


def test_a_host_killed_in_a_body_stores_the_rest_when_it_is_resent(world: World) -> None:
    calls = [world.begin_and_register() for _ in range(50)]
    world.set_delivery(batch=50, batchSeconds=100 * REAL_SECOND, attempts=10, retrySeconds=3 * REAL_SECOND)
    for call_id in calls:
        world.end(call_id, 200, 5010)
    while not world.termination(calls[0]):
        pass
    world.stack.host.kill()
    stored = _ended_on_record(world).intersection(calls)
    assert 0 < len(stored) < len(calls)  # it was in the middle
    world.wait_until(lambda: world.simulated_call(calls[0]).notifications[-1].attempts)
    assert not world.simulated_call(calls[0]).notifications[-1].acknowledged
    world.stack.start_host()

    world.wait_until(lambda: {world.ended_with(call_id) for call_id in calls} == {(200, 5010)})
    assert all(world.simulated_call(call_id).notifications[-1].acknowledged for call_id in calls)


def _ended_on_record(world: World) -> set[str]:
    """Return the ended calls, read from the table, because no host runs."""
    with TableClient.from_connection_string(world.stack.storage.connection_string, "calls") as table:
        rows = table.query_entities("RowKey ge 'ended|' and RowKey lt 'ended}'", select=["RowKey"])
        return {str(row["RowKey"]).removeprefix("ended|") for row in rows}


def _wait_for_a_sweep(world: World) -> None:
    before = len(world.sweeps())
    world.wait_until(lambda: len(world.sweeps()) > before)


def _without_an_answer(world: World, path: str) -> bool:
    try:
        world.request("POST", path, {}, once=path)
    except httpx.TransportError:
        return True
    return False


def _asked_again(world: World, path: str) -> tuple[int, str]:
    """Repeat a request with its key, and return the status and the type of the problem."""
    answer = world.request("POST", path, {}, once=path)
    return answer.status_code, str(answer.json().get("type")).rpartition(":")[2]


def _age_the_claim(world: World, call_id: str) -> None:
    """Age the idempotency record until the time is over in which its first request could still be in progress."""
    with TableClient.from_connection_string(world.stack.storage.connection_string, "calls") as table:
        (row,) = table.query_entities(f"RowKey gt 'idempotency|{call_id}|' and RowKey lt 'idempotency|{call_id}}}'")
        row["beganAt"] -= IN_PROGRESS_TIMEOUT
        table.update_entity(row, mode=UpdateMode.MERGE)


def _renewed_at(world: World, call_id: str) -> datetime:
    known = world.stored_call(call_id)
    assert known is not None
    assert known.lease is not None, known
    return known.lease.renewed_at
