"""The control API: problems, ids, operations, reset; and the simulated clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from simulator.clock import Clock
from simulator.wire import canonical_id
from tests.simulator.conftest import APP, TENANT

if TYPE_CHECKING:
    from simulator.wire import Json
    from tests.simulator.conftest import Sim

HOUR = timedelta(hours=1)
SPEED = 36_000  # 1 hour in 3600 / 36,000 = 0.1 s of real time
NEW_CALL: dict[str, Json] = {"tenantId": TENANT, "appId": APP}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        pytest.param("POST", "/calls", {}, 400, id="call without tenant and app"),
        pytest.param("POST", "/calls", NEW_CALL | {"tenant": TENANT}, 400, id="call with an unknown member"),
        pytest.param("POST", "/calls", NEW_CALL | {"callbackUri": "ftp://x"}, 400, id="callbackUri that is not http"),
        pytest.param("POST", "/calls", NEW_CALL | {"id": "a/b"}, 400, id="id with a slash"),
        pytest.param("POST", "/calls", NEW_CALL | {"state": "terminated"}, 400, id="new call that is terminated"),
        pytest.param(
            "POST", "/calls", NEW_CALL | {"state": "incoming", "direction": "outgoing"}, 400, id="incoming and outgoing"
        ),
        pytest.param("POST", "/clock", {"advance": -1}, 400, id="step back"),
        pytest.param("POST", "/clock", {"speed": -1}, 400, id="negative speed"),
        pytest.param("PUT", "/delivery", {"loss": 1.5}, 400, id="probability above 1"),
        pytest.param("PUT", "/delivery", {"shape": "other"}, 400, id="unknown shape"),
        pytest.param("POST", "/tokens", {"appId": APP}, 400, id="token without a tenant"),
        pytest.param("POST", "/keys/rotate", {"kind": "other"}, 400, id="unknown kind of key"),
        pytest.param("PUT", f"/apps/{APP}", {"role": []}, 400, id="app with an unknown member"),
        pytest.param("GET", "/calls/none", None, 404, id="unknown call"),
        pytest.param("POST", "/calls/none/end", {}, 404, id="end of an unknown call"),
        pytest.param("POST", "/calls/none/operations/none/finish", {}, 404, id="operation of an unknown call"),
        pytest.param("POST", "/calls/none/tone", {"tone": "tone1"}, 404, id="tone of an unknown call"),
        pytest.param("POST", "/calls/none/participantJoining", {}, 404, id="participant of an unknown call"),
        pytest.param("GET", "/nothing", None, 404, id="unknown path"),
        pytest.param("PATCH", "/clock", {}, 405, id="unknown method"),
    ],
)
async def test_a_wrong_request_is_a_problem_with_a_reason(
    sim: Sim, method: str, path: str, body: dict[str, Json] | None, status: int
) -> None:
    response = await sim.http.request(method, f"/control{path}", json=body)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status
    assert response.json()["detail"]


async def test_a_call_that_is_over_cannot_be_ended_again(sim: Sim) -> None:
    call_id = await sim.create()
    await sim.control("POST", f"/calls/{call_id}/end", {"subcode": 5003})
    for path in ("end", "forget"):
        assert "over already" in str((await sim.control("POST", f"/calls/{call_id}/{path}", expect=409))["detail"])
    assert (await sim.control("GET", f"/calls/{call_id}"))["subcode"] == 5003


async def test_an_id_can_be_used_once(sim: Sim) -> None:
    chosen = "2E1A0B002DB440229570243709C565AB"
    assert await sim.create(id=chosen) == "2e1a0b00-2db4-4022-9570-243709c565ab"
    await sim.control("POST", "/calls", NEW_CALL | {"id": canonical_id(chosen)}, expect=409)
    assert await sim.create(id="opaque-Id") == "opaque-Id"


async def test_an_operation_can_be_finished_once_with_any_outcome(sim: Sim) -> None:
    call_id = await sim.create()
    path = f"/v1.0/communications/calls/{call_id}/recordResponse"
    operation_id = (await sim.graph("POST", path, {})).json()["id"]
    outcome: dict[str, Json] = {"status": "failed", "code": 400, "subcode": 8510, "message": "Silence."}

    finish = f"/calls/{call_id}/operations/{operation_id}/finish"
    done = await sim.control("POST", finish, outcome | {"completionReason": "initialSilenceTimeout"})
    await sim.control("POST", finish, outcome, expect=409)
    await sim.advance(60)

    assert (done["status"], done["subcode"]) == ("failed", 8510)
    data = sim.bot.items[-1]["resourceData"]
    assert isinstance(data, dict)
    assert (data["completionReason"], data["recordingLocation"]) == ("initialSilenceTimeout", "")


async def test_a_call_that_is_not_established_hears_no_tone(sim: Sim) -> None:
    call_id = await sim.create(state="establishing")
    refused = await sim.control("POST", f"/calls/{call_id}/tone", {"tone": "tone1"}, expect=409)
    assert "is establishing" in str(refused["detail"])
    await sim.control("POST", f"/calls/{call_id}/tone", {"tone": "1"}, expect=400)


async def test_a_reset_keeps_only_the_keys(sim: Sim) -> None:
    keys = (await sim.http.get("/v1/keys")).json()
    await sim.create()
    await sim.control("POST", "/faults", {"status": 500}, expect=201)
    await sim.control("PUT", "/delivery", {"loss": 1})
    await sim.control("PUT", f"/apps/{APP}", {"roles": []})
    await sim.control("POST", "/clock", {"advance": 24 * 3600, "speed": 60})

    await sim.control("POST", "/reset", expect=204)

    assert (await sim.control("GET", "/calls"))["value"] == []
    assert (await sim.control("GET", "/faults"))["value"] == []
    assert (await sim.control("GET", "/delivery"))["loss"] == 0
    assert (await sim.control("GET", "/requests"))["counts"] == {}
    clock = await sim.control("GET", "/clock")
    assert clock["speed"] == 0
    # A minute allows for a slow machine, and is far less than the 24 hours of the step.
    assert abs(datetime.fromisoformat(str(clock["now"])) - datetime.now(UTC)) < timedelta(minutes=1)
    assert (await sim.http.get("/v1/keys")).json() == keys
    await sim.graph("GET", f"/v1.0/communications/calls/{await sim.create()}")


async def test_the_same_seed_gives_the_same_ids(sim: Sim) -> None:
    first = [await sim.create() for _ in range(3)]
    sim.simulation.reset()
    assert [await sim.create() for _ in range(3)] == first


async def test_a_running_clock_runs_an_action_when_it_is_due() -> None:
    clock, done = Clock(speed=SPEED), asyncio.Event()
    began, at = clock.now(), list[datetime]()

    def action() -> None:
        at.append(clock.now())
        done.set()

    clock.after(HOUR, action)
    async with asyncio.timeout(30):
        await done.wait()
    # The real time between the two readings of the clock is simulated time too: 1/60 s of it is 10 minutes.
    assert HOUR - timedelta(minutes=10) <= at[0] - began <= HOUR + timedelta(minutes=10)
    clock.stop()


async def test_a_change_of_speed_changes_when_an_action_runs_and_not_the_time() -> None:
    clock, done = Clock(speed=0), asyncio.Event()
    began = clock.now()
    clock.after(HOUR, done.set)
    assert clock.now() == began
    clock.set_speed(SPEED)
    async with asyncio.timeout(30):
        await done.wait()
    clock.stop()


async def test_actions_that_a_step_schedules_run_within_the_step() -> None:
    clock, seen = Clock(speed=0), list[timedelta]()
    began, interval = clock.now(), timedelta(seconds=10)

    def again() -> None:
        seen.append(clock.now() - began)
        clock.after(interval, again)

    async def nothing() -> None:
        pass

    clock.after(interval, again)
    await clock.advance(3.5 * interval, nothing)
    assert seen == [interval, 2 * interval, 3 * interval]
    assert clock.now() - began == 3.5 * interval
