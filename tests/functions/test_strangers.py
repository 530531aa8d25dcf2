"""Responses of proxies, gateways and wrong addresses in Graph's place. They renew, hang up, record and end nothing."""

from typing import Any
from uuid import uuid4

import pytest

from tests.functions.harness import KEY, App, ago

KEYED = KEY | {"Idempotency-Key": '"8e03978e-40d5-43dd"'}
STRANGERS = [
    pytest.param(status, stranger, id=f"{status} with {body}")
    for stranger, body, statuses in (
        ("page", "a page", (200, 204, 302, 401, 403, 404)),
        ("empty", "no body", (302, 401, 403, 404)),
        ("json", "JSON", (403, 404)),
    )
    for status in statuses
]
NOT_OF_GRAPH = [
    pytest.param(200, "empty", id="200 with no body"),
    pytest.param(204, "empty", id="204 with no body"),
    pytest.param(200, "json", id="200 with JSON"),
    pytest.param(502, "page", id="502 with a page"),
]


async def old_call(app: App) -> str:
    """A call that is old enough for a 404 to end it."""
    call_id = await app.simulator.call(app.tenant, ageSeconds=600)
    return await app.register(call_id, startedAt=ago(minutes=10))


async def asked_of_graph(app: App, call_id: str, operation: str) -> int:
    requests: Any = await app.simulator.control("GET", f"/requests?operation={operation}&callId={call_id}")
    return len(requests["value"])


@pytest.mark.parametrize(("status", "stranger"), [*STRANGERS, *NOT_OF_GRAPH])
async def test_a_keep_alive_is_no_renewal_and_no_end(app: App, status: int, stranger: str) -> None:
    call_id = await old_call(app)
    await app.simulator.fault(operation="keepAlive", callId=call_id, status=status, proxyResponse=stranger)
    await app.ask("POST", "keep-alive", expect=200)
    call: Any = await app.asked("GET", f"calls/{call_id}")
    assert call["status"] == "active"
    assert (call["lease"]["failing"]["reason"], call["lease"]["failing"]["status"]) == ("unavailable", status)


@pytest.mark.parametrize(("status", "stranger"), STRANGERS)
async def test_a_hang_up_is_not_reported_as_done(app: App, status: int, stranger: str) -> None:
    call_id = await old_call(app)
    await app.simulator.fault(operation="delete", callId=call_id, status=status, proxyResponse=stranger)
    problem = await app.asked("POST", f"calls/{call_id}/hangup", expect=502)
    assert problem["type"] == "urn:call-keeper:problem:graph-unreachable"
    assert (await app.asked("GET", f"calls/{call_id}"))["hangup"] is None
    (_, answered) = (await app.lines(call_id, "hangup"))[-1]
    assert answered["outcome"] == "notSent"


@pytest.mark.parametrize(("status", "stranger"), STRANGERS)
async def test_a_recording_has_not_begun_and_its_key_is_free(app: App, status: int, stranger: str) -> None:
    call_id = await old_call(app)
    await app.simulator.fault(operation="recordResponse", callId=call_id, status=status, proxyResponse=stranger)
    problem = await app.asked("POST", f"calls/{call_id}/record", {}, expect=502, headers=KEYED)
    assert problem["type"] == "urn:call-keeper:problem:graph-unreachable"
    await app.simulator.control("DELETE", "/faults")
    await app.ask("POST", f"calls/{call_id}/record", {}, expect=202, headers=KEYED)
    assert await asked_of_graph(app, call_id, "recordResponse") == 2


async def test_graphs_own_word_about_a_wrong_address_ends_no_call(app: App) -> None:
    """A path too many in GRAPH_BASE_URL: Graph answers 404 with its request-id, and means the address."""
    async with app.configured(GRAPH_BASE_URL=f"{app.simulator.address}/graph") as misled:
        call_id = await old_call(misled)
        await misled.ask("POST", "keep-alive", expect=200)
        assert (await misled.asked("GET", f"calls/{call_id}"))["status"] == "active"


async def test_without_a_connection_nothing_was_done(app: App) -> None:
    async with app.configured(GRAPH_BASE_URL="http://127.0.0.1:9") as alone:
        call_id = await alone.register(str(uuid4()))
        for verb in ("hangup", "record"):
            key = {"Idempotency-Key": f'"{verb}"'}
            problem = await alone.asked("POST", f"calls/{call_id}/{verb}", expect=502, headers=KEY | key)
            assert problem["type"] == "urn:call-keeper:problem:graph-unreachable"
            (_, answered) = (await alone.lines(call_id, verb))[-1]
            assert answered["outcome"] == "notSent"
