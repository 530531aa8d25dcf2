"""Faults on request, and the journal of requests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from simulator.middleware import ConnectionDropped
from tests.simulator.conftest import APP, TENANT

if TYPE_CHECKING:
    from simulator.wire import Json
    from tests.simulator.conftest import Sim

CALLS = "/v1.0/communications/calls"
OTHER_TENANT = "99999999-2222-4333-8444-555555555555"


async def keep_alive(sim: Sim, call_id: str, tenant_id: str = TENANT) -> int:
    token = await sim.token(tenant_id=tenant_id)
    return (await sim.graph("POST", f"{CALLS}/{call_id}/keepAlive", token=token)).status_code


async def add_fault(sim: Sim, **fault: Json) -> str:
    return str((await sim.control("POST", "/faults", fault, expect=201))["id"])


async def test_a_fault_for_ten_seconds_is_over_after_ten_seconds(sim: Sim) -> None:
    call_id = await sim.create()
    await add_fault(sim, status=503, forSeconds=10)

    assert await keep_alive(sim, call_id) == 503
    await sim.advance(9.9)
    assert await keep_alive(sim, call_id) == 503
    await sim.advance(10 - 9.9)
    assert await keep_alive(sim, call_id) == 200
    assert (await sim.control("GET", "/faults"))["value"] == []


async def test_a_fault_with_a_count_is_over_after_so_many_hits(sim: Sim) -> None:
    call_id = await sim.create()
    await add_fault(sim, status=500, count=2)
    assert [await keep_alive(sim, call_id) for _ in range(3)] == [500, 500, 200]


@pytest.mark.parametrize(
    ("after", "header"),
    [(2.128, "2.128"), (5, "5"), ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:00 GMT")],
    ids=["fraction of seconds", "seconds", "date"],
)
async def test_a_throttled_response_has_retry_after(sim: Sim, after: float | str, header: str) -> None:
    await add_fault(sim, status=429, subcode=8516, retryAfter=after, message="Slow down.")

    response = await sim.graph("GET", f"{CALLS}/x")

    assert (response.status_code, response.headers["retry-after"]) == (429, header)
    assert response.json()["error"]["code"] == "8516"
    assert response.json()["error"]["message"] == "Slow down."


@pytest.mark.parametrize(
    ("content", "media_type"),
    [("page", "text/html"), ("json", "application/json"), ("empty", "")],
    ids=["page", "json", "empty"],
)
@pytest.mark.parametrize("status", [200, 302, 403, 404, 502])
async def test_a_proxy_response_has_no_header_of_graph_and_no_effect(
    sim: Sim, content: str, media_type: str, status: int
) -> None:
    call_id = await sim.create()
    await add_fault(sim, status=status, proxyResponse=content, operation="keepAlive", retryAfter=7)

    token = await sim.token(tenant_id=TENANT)
    response = await sim.graph("POST", f"{CALLS}/{call_id}/keepAlive", token=token)

    assert (response.status_code, response.headers["retry-after"]) == (status, "7")
    assert response.headers.get("content-type", "").partition(";")[0] == media_type
    assert not {"request-id", "client-request-id", "x-ms-ags-diagnostic"} & set(response.headers)
    assert (await sim.control("GET", f"/calls/{call_id}"))["keepAlives"] == 0


async def test_a_fault_affects_one_operation_one_call_or_one_tenant(sim: Sim) -> None:
    first, second = await sim.create(), await sim.create()
    of_other_tenant = await sim.create(tenantId=OTHER_TENANT)
    await add_fault(sim, status=501, operation="get")
    await add_fault(sim, status=502, callId=first.upper())
    await add_fault(sim, status=504, tenantId=OTHER_TENANT.upper())

    assert await keep_alive(sim, first) == 502
    assert await keep_alive(sim, second) == 200
    assert await keep_alive(sim, of_other_tenant, OTHER_TENANT) == 504
    assert (await sim.graph("GET", f"{CALLS}/{first}")).status_code == 501, "the oldest matching fault"


async def test_a_fault_without_an_operation_does_not_affect_entra_and_the_keys(sim: Sim) -> None:
    await add_fault(sim, status=503)
    assert (await sim.http.get("/v1/keys")).status_code == 200
    assert (await sim.http.get(f"/{TENANT}/discovery/v2.0/keys")).status_code == 200
    await add_fault(sim, status=503, operation="notificationKeys")
    await add_fault(sim, status=503, operation="token")
    assert (await sim.http.get("/v1/keys")).status_code == 503
    assert (await sim.http.post(f"/{TENANT}/oauth2/v2.0/token")).json()["error"] == "ServiceUnavailable"


async def test_a_fault_prevents_the_request_unless_it_changes_only_the_response(sim: Sim) -> None:
    call_id = await sim.create()
    await add_fault(sim, status=504, count=1)
    await add_fault(sim, status=504, count=1, responseOnly=True)

    assert await keep_alive(sim, call_id) == 504
    assert (await sim.control("GET", f"/calls/{call_id}"))["keepAlives"] == 0
    assert await keep_alive(sim, call_id) == 504
    assert (await sim.control("GET", f"/calls/{call_id}"))["keepAlives"] == 1


async def test_a_delay_runs_on_the_simulated_clock_and_then_the_request_is_served(sim: Sim) -> None:
    call_id = await sim.create()
    await add_fault(sim, delaySeconds=30, count=1)

    waiting = asyncio.create_task(keep_alive(sim, call_id))
    while not (await sim.control("GET", "/requests"))["counts"] and not waiting.done():
        await sim.advance(10)

    assert await waiting == 200
    times = (await sim.control("GET", f"/calls/{call_id}"))["keepAliveTimes"]
    assert isinstance(times, list)
    assert len(times) == 1


async def test_a_dropped_connection_has_no_response(sim: Sim) -> None:
    await add_fault(sim, dropConnection=True)
    with pytest.raises(ConnectionDropped):
        await sim.graph("GET", f"{CALLS}/x")
    assert (await sim.control("GET", "/requests"))["counts"] == {"get": {"dropped": 1, "total": 1}}


async def test_faults_can_be_stopped_one_by_one_or_all(sim: Sim) -> None:
    ids = [await add_fault(sim, status=500) for _ in range(3)]
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
        pytest.param({}, id="no effect"),
        pytest.param({"status": 200}, id="status below 300 without a proxy"),
        pytest.param({"proxyResponse": "page"}, id="proxy without a status"),
        pytest.param({"status": 404, "proxyResponse": "poem"}, id="unknown proxy response"),
        pytest.param({"status": 503, "dropConnection": True}, id="dropped connection with a status"),
        pytest.param({"operation": "mute", "status": 500}, id="unknown operation"),
        pytest.param({"status": 500, "probability": 2}, id="probability above 1"),
        pytest.param({"status": 500, "times": 3}, id="unknown member"),
    ],
)
async def test_a_wrong_fault_is_refused_with_the_reason(sim: Sim, wrong: dict[str, Json]) -> None:
    response = await sim.control("POST", "/faults", wrong, expect=400)
    assert response["status"] == 400
    assert response["detail"]


async def test_the_journal_has_each_request_without_its_token(sim: Sim) -> None:
    call_id = await sim.create()
    await sim.graph("POST", f"{CALLS}/{call_id}/keepAlive", request_id="mine")
    await sim.graph("GET", f"{CALLS}/{call_id}")

    listed = await sim.control("GET", f"/requests?operation=keepAlive&callId={call_id.upper()}")

    assert listed["counts"] == {"get": {"200": 1, "total": 1}, "keepAlive": {"200": 1, "total": 1}}
    value = listed["value"]
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


async def test_a_wrong_query_of_the_journal_is_refused(sim: Sim) -> None:
    assert "keepAlive" in str((await sim.control("GET", "/requests?operation=none", expect=400))["detail"])
    await sim.control("GET", "/requests?limit=many", expect=400)
