"""Hang-up and record with an Idempotency-Key, over HTTP."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from pydantic import JsonValue

from functions.routing import Role
from tests.functions.harness import KEY, App, about_call, bearer

ONE = KEY | {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
RECORDING: JsonValue = {"maxRecordDurationInSeconds": 10, "stopTones": ["#"]}
VERBS = pytest.mark.parametrize(
    ("verb", "operation", "body"),
    [
        pytest.param("hangup", "delete", None, id="hangup"),
        pytest.param("record", "recordResponse", RECORDING, id="record"),
    ],
)


async def asked_of_graph(app: App, call_id: str, operation: str) -> int:
    requests: Any = await app.simulator.control("GET", f"/requests?operation={operation}&callId={call_id}")
    return len(requests["value"])


async def event_kinds(app: App, call_id: str) -> list[str]:
    events: Any = await app.asked("GET", f"calls/{call_id}/events")
    return [event["kind"] for event in events["value"]]


@VERBS
async def test_a_repetition_gets_the_same_answer_and_graph_is_not_asked_again(
    app: App, verb: str, operation: str, body: JsonValue
) -> None:
    call_id = await app.register()
    first = await app.ask("POST", f"calls/{call_id}/{verb}", body, expect=202, headers=ONE)
    lines = await event_kinds(app, call_id)
    await app.notify(about_call(call_id, "deleted", state="terminated"))
    for _ in range(2):
        again = await app.ask("POST", f"calls/{call_id}/{verb}", body, expect=202, headers=ONE)
        assert again.content == first.content
        assert again.headers.get("location") == first.headers.get("location")
    assert await asked_of_graph(app, call_id, operation) == 1
    assert await event_kinds(app, call_id) == [*lines, "callNotified"]


async def test_without_a_key_each_request_is_one_of_its_own(app: App) -> None:
    call_id = await app.register()
    for _ in range(2):
        await app.ask("POST", f"calls/{call_id}/record", RECORDING, expect=202)
    assert await asked_of_graph(app, call_id, "recordResponse") == 2


async def test_the_same_request_in_another_form_is_the_same_and_another_request_is_refused(app: App) -> None:
    call_id = await app.register()
    await app.ask("POST", f"calls/{call_id}/record", RECORDING, expect=202, headers=ONE)
    same = b' {"stopTones":["\\u0023"],"maxRecordDurationInSeconds":10, "playBeep":null}'
    answer = await app.http.post(f"/api/calls/{call_id}/record", content=same, headers=ONE)
    assert answer.status_code == 202
    for verb, body in (("record", {"maxRecordDurationInSeconds": 11}), ("record", None), ("hangup", None)):
        problem = await app.asked("POST", f"calls/{call_id}/{verb}", body, expect=422, headers=ONE)  # type: ignore[arg-type] # JSON
        assert problem["type"] == "urn:call-keeper:problem:idempotency-key-reused"
    assert await asked_of_graph(app, call_id, "recordResponse") == 1
    assert await asked_of_graph(app, call_id, "delete") == 0


async def test_of_several_requests_at_the_same_time_one_records(app: App) -> None:
    call_id = await app.register()
    path = f"/api/calls/{call_id}/record"
    answers = await asyncio.gather(*(app.http.post(path, json=RECORDING, headers=ONE) for _ in range(6)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.content for answer in answers if answer.status_code == 202}) == 1
    for refused in (answer for answer in answers if answer.status_code == 409):
        assert refused.json()["type"] == "urn:call-keeper:problem:request-in-progress"
        assert refused.headers["retry-after"] == "5"
    assert await asked_of_graph(app, call_id, "recordResponse") == 1


async def test_a_recording_with_unknown_outcome_is_not_started_again(app: App) -> None:
    call_id = await app.register()
    await app.simulator.fault(operation="recordResponse", callId=call_id, dropConnection=True)
    await app.ask("POST", f"calls/{call_id}/record", RECORDING, expect=409, headers=ONE)
    await app.simulator.control("DELETE", "/faults")
    problem = await app.asked("POST", f"calls/{call_id}/record", RECORDING, expect=409, headers=ONE)
    assert problem["type"] == "urn:call-keeper:problem:outcome-unknown"
    assert await asked_of_graph(app, call_id, "recordResponse") == 1
    await app.ask("POST", f"calls/{call_id}/record", RECORDING, expect=202, headers=KEY | {"Idempotency-Key": '"two"'})


async def test_a_hang_up_with_unknown_outcome_is_repeated(app: App) -> None:
    call_id = await app.register()
    await app.simulator.fault(operation="delete", callId=call_id, dropConnection=True)
    await app.ask("POST", f"calls/{call_id}/hangup", expect=504, headers=ONE)
    await app.simulator.control("DELETE", "/faults")
    await app.ask("POST", f"calls/{call_id}/hangup", expect=202, headers=ONE)


@VERBS
async def test_a_request_that_graph_refused_may_be_repeated_with_the_same_key(
    app: App, verb: str, operation: str, body: JsonValue
) -> None:
    call_id = await app.register()
    await app.simulator.fault(operation=operation, callId=call_id, status=429, retryAfter="1")
    await app.ask("POST", f"calls/{call_id}/{verb}", body, expect=503, headers=ONE)
    await app.simulator.control("DELETE", "/faults")
    await app.ask("POST", f"calls/{call_id}/{verb}", body, expect=202, headers=ONE)


async def test_a_key_of_another_caller_is_another_key(guarded: App) -> None:
    call_id = await guarded.simulator.call(guarded.tenant)
    answers = []
    for app_id in (str(uuid4()), str(uuid4())):
        headers = ONE | await bearer(guarded, Role.MANAGE, appId=app_id)
        await guarded.http.put(f"/api/calls/{call_id}", json={"tenantId": guarded.tenant}, headers=headers)
        answers.append(await guarded.asked("POST", f"calls/{call_id}/record", RECORDING, expect=202, headers=headers))
    assert answers[0]["id"] != answers[1]["id"]


@VERBS
async def test_a_key_that_is_malformed_is_refused_before_graph_is_asked(
    app: App, verb: str, operation: str, body: JsonValue
) -> None:
    call_id = await app.register()
    for header in ("no-quotes", '"x", "y"', '"x";a'):
        headers = KEY | {"Idempotency-Key": header}
        problem: Any = await app.asked("POST", f"calls/{call_id}/{verb}", body, expect=400, headers=headers)
        assert [fault["pointer"] for fault in problem["errors"]] == ["Idempotency-Key"]
    assert await asked_of_graph(app, call_id, operation) == 0


@VERBS
async def test_a_call_that_is_not_on_record_is_a_404_with_a_key_too(
    app: App, verb: str, operation: str, body: JsonValue
) -> None:
    call_id = str(uuid4())
    await app.ask("POST", f"calls/{call_id}/{verb}", body, expect=404, headers=ONE)
    assert await asked_of_graph(app, call_id, operation) == 0
