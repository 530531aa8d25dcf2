"""Faults on demand, and the journal of what was sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from simulator.gate import ConnectionDropped
from tests.simulator.conftest import APP, TENANT

if TYPE_CHECKING:
    from simulator.wire import Json
    from tests.simulator.conftest import Sim

CALLS = "/v1.0/communications/calls"
OTHER_TENANT = "99999999-2222-4333-8444-555555555555"


async def keep_alive(sim: Sim, call_id: str, tenant_id: str = TENANT) -> int:
    token = await sim.token(tenant_id=tenant_id)
    return (await sim.graph("POST", f"{CALLS}/{call_id}/keepAlive", token=token)).status_code


async def spoil(sim: Sim, **fault: Json) -> str:
    return str((await sim.control("POST", "/faults", fault, expect=201))["id"])


async def test_a_fault_for_ten_seconds_is_over_after_ten_seconds(sim: Sim) -> None:
    call_id = await sim.create()
    await spoil(sim, status=503, forSeconds=10)

    assert await keep_alive(sim, call_id) == 503
    await sim.advance(9.9)
    assert await keep_alive(sim, call_id) == 503
    await sim.advance(0.1)
    assert await keep_alive(sim, call_id) == 200
    assert (await sim.control("GET", "/faults"))["value"] == []


async def test_a_counted_fault_is_over_after_its_hits(sim: Sim) -> None:
    call_id = await sim.create()
    await spoil(sim, status=500, count=2)
    assert [await keep_alive(sim, call_id) for _ in range(3)] == [500, 500, 200]


@pytest.mark.parametrize(("after", "header"), [(2.128, "2.128"), (5, "5"), ("Wed, 21 Oct 2026 07:28:00 GMT", None)])
async def test_a_throttled_answer_says_when_to_come_again(sim: Sim, after: float | str, header: str | None) -> None:
    await spoil(sim, status=429, subcode=8516, retryAfter=after, message="Slow down.")

    answer = await sim.graph("GET", f"{CALLS}/x")

    assert (answer.status_code, answer.headers["retry-after"]) == (429, header or after)
    assert answer.json()["error"]["code"] == "8516"
    assert answer.json()["error"]["message"] == "Slow down."


@pytest.mark.parametrize(("form", "kind"), [("page", "text/html"), ("json", "application/json"), ("empty", None)])
@pytest.mark.parametrize("status", [200, 302, 403, 404, 502])
async def test_a_stranger_answers_without_graphs_marks_and_does_nothing(
    sim: Sim, form: str, kind: str | None, status: int
) -> None:
    call_id = await sim.create()
    await spoil(sim, status=status, stranger=form, operation="keepAlive", retryAfter=7)

    token = await sim.token(tenant_id=TENANT)
    answer = await sim.graph("POST", f"{CALLS}/{call_id}/keepAlive", token=token)

    assert (answer.status_code, answer.headers["retry-after"]) == (status, "7")
    assert answer.headers.get("content-type", "").partition(";")[0] == (kind or "")
    assert not {"request-id", "client-request-id", "x-ms-ags-diagnostic"} & set(answer.headers)
    assert (await sim.control("GET", f"/calls/{call_id}"))["keepAlives"] == 0


@pytest.mark.parametrize("fault", [{"status": 200}, {"stranger": "page"}, {"status": 404, "stranger": "poem"}])
async def test_a_strangers_answer_needs_a_status_and_graph_itself_fails_with_300_or_more(
    sim: Sim, fault: dict[str, Json]
) -> None:
    await sim.control("POST", "/faults", fault, expect=400)


async def test_a_fault_hits_one_operation_one_call_or_one_tenant(sim: Sim) -> None:
    mine, other = await sim.create(), await sim.create()
    foreign = await sim.create(tenantId=OTHER_TENANT)
    await spoil(sim, status=501, operation="get")
    await spoil(sim, status=502, callId=mine.upper())
    await spoil(sim, status=504, tenantId=OTHER_TENANT.upper())

    assert await keep_alive(sim, mine) == 502
    assert await keep_alive(sim, other) == 200
    assert await keep_alive(sim, foreign, OTHER_TENANT) == 504
    assert (await sim.graph("GET", f"{CALLS}/{mine}")).status_code == 501, "the oldest that fits"


async def test_a_fault_without_an_operation_leaves_entra_and_the_keys_alone(sim: Sim) -> None:
    await spoil(sim, status=503)
    assert (await sim.http.get("/v1/keys")).status_code == 200
    assert (await sim.http.get(f"/{TENANT}/discovery/v2.0/keys")).status_code == 200
    await spoil(sim, status=503, operation="notificationKeys")
    await spoil(sim, status=503, operation="token")
    assert (await sim.http.get("/v1/keys")).status_code == 503
    assert (await sim.http.post(f"/{TENANT}/oauth2/v2.0/token")).json()["error"] == "ServiceUnavailable"


async def test_a_spoiled_request_is_not_carried_out_unless_only_its_answer_is_spoiled(sim: Sim) -> None:
    call_id = await sim.create()
    await spoil(sim, status=504, count=1)
    await spoil(sim, status=504, count=1, afterwards=True)

    assert await keep_alive(sim, call_id) == 504
    assert (await sim.control("GET", f"/calls/{call_id}"))["keepAlives"] == 0
    assert await keep_alive(sim, call_id) == 504
    assert (await sim.control("GET", f"/calls/{call_id}"))["keepAlives"] == 1


async def test_a_delay_runs_on_the_simulated_clock_and_then_the_request_is_served(sim: Sim) -> None:
    call_id = await sim.create()
    await spoil(sim, delaySeconds=30, count=1)

    waiting = asyncio.create_task(keep_alive(sim, call_id))
    while not (await sim.control("GET", "/requests"))["counts"] and not waiting.done():
        await sim.advance(10)

    assert await waiting == 200
    times = (await sim.control("GET", f"/calls/{call_id}"))["keepAliveTimes"]
    assert isinstance(times, list)
    assert len(times) == 1


async def test_a_dropped_connection_has_no_answer(sim: Sim) -> None:
    await spoil(sim, dropConnection=True)
    with pytest.raises(ConnectionDropped):
        await sim.graph("GET", f"{CALLS}/x")
    assert (await sim.control("GET", "/requests"))["counts"] == {"get": {"dropped": 1, "total": 1}}


async def test_faults_can_be_stopped_one_by_one_or_all(sim: Sim) -> None:
    ids = [await spoil(sim, status=500) for _ in range(3)]
    await sim.control("DELETE", f"/faults/{ids[0]}", expect=204)
    await sim.control("DELETE", f"/faults/{ids[0]}", expect=404)
    left = (await sim.control("GET", "/faults"))["value"]
    assert isinstance(left, list)
    assert len(left) == 2
    await sim.control("DELETE", "/faults", expect=204)
    assert (await sim.control("GET", "/faults"))["value"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"status": 200},
        {"status": 503, "dropConnection": True},
        {"operation": "mute", "status": 500},
        {"status": 500, "probability": 2},
        {"status": 500, "times": 3},
    ],
)
async def test_a_fault_that_makes_no_sense_is_refused_with_the_reason(sim: Sim, wrong: dict[str, Json]) -> None:
    answer = await sim.control("POST", "/faults", wrong, expect=400)
    assert answer["status"] == 400
    assert answer["detail"]


async def test_the_journal_tells_what_was_sent_but_never_the_token(sim: Sim) -> None:
    call_id = await sim.create()
    await sim.graph("POST", f"{CALLS}/{call_id}/keepAlive", request_id="mine")
    await sim.graph("GET", f"{CALLS}/{call_id}")

    told = await sim.control("GET", f"/requests?operation=keepAlive&callId={call_id.upper()}")

    assert told["counts"] == {"get": {"200": 1, "total": 1}, "keepAlive": {"200": 1, "total": 1}}
    value = told["value"]
    assert isinstance(value, list)
    entry = value[0]
    assert isinstance(entry, dict)
    assert {name: entry[name] for name in entry if name not in {"at", "headers"}} == {
        "operation": "keepAlive",
        "method": "POST",
        "path": f"{CALLS}/{call_id}/keepAlive",
        "callId": call_id,
        "tenantId": TENANT,
        "appId": APP,
        "status": 200,
        "faultId": None,
    }
    headers = entry["headers"]
    assert isinstance(headers, dict)
    assert headers["client-request-id"] == "mine"
    assert "authorization" not in headers


async def test_a_wrong_question_to_the_journal_is_refused(sim: Sim) -> None:
    assert "keepAlive" in str((await sim.control("GET", "/requests?operation=none", expect=400))["detail"])
    await sim.control("GET", "/requests?limit=many", expect=400)
