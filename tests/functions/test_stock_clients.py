"""Clients that repeat a POST by themselves: one request for a recording stays one recording.

Measured: Kiota repeats after 429, 503 and 504, three times, `Retry-After` or else 3, 6, 12 seconds apart, a POST too,
and without an Idempotency-Key. The standard resilience handler of .NET repeats after 408, 429 and each 5xx.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import JsonValue

from shared.api.idempotency import IMPLIED_KEY_TTL, IN_PROGRESS_TIMEOUT
from shared.storage.store import CallStore
from tests.functions.harness import KEY, App, LosingStore, with_store

RECORDING: JsonValue = {"maxRecordDurationInSeconds": 10, "stopTones": ["#"]}
KIOTA = frozenset({429, 503, 504})
RESILIENCE_HANDLER = frozenset({408, 429, *range(500, 600)})
CLIENTS = pytest.mark.parametrize("repeats_after", [KIOTA, RESILIENCE_HANDLER], ids=["kiota", "dotnet"])


@dataclass
class StockClient:
    """Sends a request and repeats it as a stock client does. Time is stepped instead of waited for."""

    app: App
    repeats_after: frozenset[int]
    statuses: list[int] = field(default_factory=list)

    async def post(self, path: str, body: JsonValue) -> httpx.Response:
        answer = await self._send(path, body)
        for wait in (3, 6, 12):
            if answer.status_code not in self.repeats_after:
                break
            self.app.clock.ahead += timedelta(seconds=int(answer.headers.get("retry-after", wait)))
            answer = await self._send(path, body)
        return answer

    async def _send(self, path: str, body: JsonValue) -> httpx.Response:
        answer = await self.app.http.post(f"/api/{path}", json=body, headers=KEY)
        self.statuses.append(answer.status_code)
        return answer


async def asked_of_graph(app: App, call_id: str) -> int:
    requests: Any = await app.simulator.control("GET", f"/requests?operation=recordResponse&callId={call_id}")
    return len(requests["value"])


@CLIENTS
@pytest.mark.parametrize(
    "fault",
    [
        {"dropConnection": True, "responseOnly": True},
        {"status": 503, "responseOnly": True},
        {"status": 504, "responseOnly": True, "retryAfter": 1},
        {"status": 504, "proxyResponse": "page"},
    ],
    ids=["no-answer", "503", "504", "gateway"],
)
async def test_a_recording_with_unknown_outcome_is_sent_once(
    app: App, repeats_after: frozenset[int], fault: dict[str, JsonValue]
) -> None:
    call_id = await app.register()
    await app.simulator.fault(operation="recordResponse", callId=call_id, count=1, **fault)
    client = StockClient(app, repeats_after)
    answer = await client.post(f"calls/{call_id}/record", RECORDING)
    assert client.statuses == [409]
    assert answer.json()["type"] == "urn:call-keeper:problem:outcome-unknown"
    again = await app.asked(
        "POST", f"calls/{call_id}/record", RECORDING, expect=409
    )  # a client that repeats after 409 too
    assert again["type"] == "urn:call-keeper:problem:outcome-unknown"
    assert await asked_of_graph(app, call_id) == 1


@CLIENTS
async def test_a_recording_that_could_not_be_stored_is_sent_once(app: App, repeats_after: frozenset[int]) -> None:
    call_id = await app.register()
    async with with_store(app, LosingStore) as troubled:
        client = StockClient(troubled, repeats_after)
        problem = (await client.post(f"calls/{call_id}/record", RECORDING)).json()
        assert await troubled.lines(call_id, "record") == [("recordRequested", {"requestedBy": "function key"})]
    assert client.statuses == [409]
    assert problem["type"] == "urn:call-keeper:problem:recording-not-persisted"
    assert "could not be stored" in problem["detail"]
    again = await app.asked("POST", f"calls/{call_id}/record", RECORDING, expect=409)
    assert again["type"] == "urn:call-keeper:problem:outcome-unknown"
    assert await asked_of_graph(app, call_id) == 1


@CLIENTS
async def test_a_recording_that_certainly_did_not_start_is_repeated_until_it_succeeds(
    app: App, repeats_after: frozenset[int]
) -> None:
    call_id = await app.register()
    await app.simulator.fault(operation="recordResponse", callId=call_id, status=429, retryAfter=1, count=2)
    client = StockClient(app, repeats_after)
    await client.post(f"calls/{call_id}/record", RECORDING)
    assert client.statuses == [503, 503, 202]
    assert len((await app.asked("GET", f"calls/{call_id}/operations"))["value"]) == 1  # type: ignore[arg-type] # JSON


async def test_a_recording_of_a_process_that_died_is_not_sent_again(app: App) -> None:
    """The platform answers 503 for a process that died while it recorded; its claim stays."""
    call_id = await app.register()

    class Dying(CallStore):
        async def settle_idempotency_key(self, *_: object) -> None:
            """The process has ended by then."""

    async with with_store(app, Dying) as troubled:
        await troubled.ask("POST", f"calls/{call_id}/record", RECORDING, expect=202)
    problem = await app.asked("POST", f"calls/{call_id}/record", RECORDING, expect=409)
    assert problem["type"] == "urn:call-keeper:problem:request-in-progress"
    app.clock.ahead += IN_PROGRESS_TIMEOUT
    problem = await app.asked("POST", f"calls/{call_id}/record", RECORDING, expect=409)
    assert problem["type"] == "urn:call-keeper:problem:outcome-unknown"
    app.clock.ahead += IMPLIED_KEY_TTL - IN_PROGRESS_TIMEOUT
    await app.ask("POST", f"calls/{call_id}/record", RECORDING, expect=202)
    assert await asked_of_graph(app, call_id) == 2
