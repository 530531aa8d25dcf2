"""No secret and nobody's name gets into a log line, or into an answer but the operation's own."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from shared.graph.token_cache import GraphTokens
from tests.functions.harness import KEY, App, about_call, about_operation, ago

CLIENT_SECRET = "a-client-secret-that-nobody-may-see"
RECORDING_TOKEN = "a-recording-access-token-that-few-may-see"
RECORDING_PLACE = "https://recordings.example/a-place-that-few-may-see"
MEETING_TOKEN = "a-meeting-token-that-nobody-may-see"
DISPLAY_NAME = "Ada Lovelace of Nobody-May-See"
ACCOUNT_KEY = "YS1rZXktdGhhdC1ub2JvZHktbWF5LXNlZQ=="
PROMPT = "https://prompts.example/a-prompt-with-sig=nobody-may-see"
ALWAYS = [CLIENT_SECRET, MEETING_TOKEN, DISPLAY_NAME, ACCOUNT_KEY]
FOR_FEW = [RECORDING_TOKEN, RECORDING_PLACE]
DEAD_STORAGE = (
    f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={ACCOUNT_KEY};"
    "TableEndpoint=http://127.0.0.1:9/devstoreaccount1;QueueEndpoint=http://127.0.0.1:9/devstoreaccount1;"
)


class Answers:
    """Every answer that the app gave, by its path."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    async def keep(self, answer: httpx.Response) -> None:
        await answer.aread()
        self.seen.append((answer.request.url.path, answer.text + str(answer.headers)))


@pytest.fixture
def answers(app: App) -> Iterator[Answers]:
    kept = Answers()
    app.http.event_hooks["response"].append(kept.keep)
    yield kept
    app.http.event_hooks["response"].remove(kept.keep)


def _lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """All that any logger was given, at any level, with the columns and the tracebacks."""
    formatter = logging.Formatter()
    return [f"{formatter.format(record)} {vars(record)}" for record in caplog.records if record.name != "faker"]


async def test_no_secret_is_told_in_success_or_failure(
    app: App, answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("httpcore", "httpx", "asyncio"):  # the test's own client logs what it sends
        logging.getLogger(name).setLevel(logging.WARNING)
    caplog.clear()
    tokens: list[str] = [(await app.simulator.signature(app.tenant))["Authorization"].removeprefix("Bearer ")]
    call_id, operation_id = await app.simulator.call(app.tenant), str(uuid4())
    async with app.configured(GRAPH_CLIENT_SECRET=CLIENT_SECRET) as keeper:
        await _live(keeper, call_id, operation_id, tokens[0])
        await _fail(keeper, call_id, tokens[0])
        graph_tokens = keeper.parts.graph._tokens
        assert isinstance(graph_tokens, GraphTokens)
        tokens += [known.token.token for known in graph_tokens._cache.values() if known.token]
    async with app.configured(CALLS_STORAGE=DEAD_STORAGE) as cut_off:
        for path in ("calls", f"calls/{call_id}", "health"):
            await cut_off.ask("GET", path, expect=503)
        await cut_off.notify(about_call(call_id, state="established"), expect=503)

    assert len(tokens) > 1
    assert len(answers.seen) > 20
    lines = _lines(caplog)
    assert any("call.recording_started" in line for line in lines)
    for secret in (*ALWAYS, *FOR_FEW, *tokens, PROMPT):
        assert not [line for line in lines if secret in line], f"{secret[:20]}… was logged"
    own = f"/api/calls/{call_id}/operations/{operation_id}"
    for path, text in answers.seen:
        for secret in (*ALWAYS, *tokens, *(FOR_FEW if path != own else ())):
            assert secret not in text, path
    assert any(RECORDING_TOKEN in text and RECORDING_PLACE in text for path, text in answers.seen if path == own)


async def _live(app: App, call_id: str, operation_id: str, token: str) -> None:
    """A call's whole life."""
    await app.register(call_id, startedAt=ago(minutes=30), metadata={"bot": "ivr"})
    people = [{"info": {"identity": {"user": {"displayName": DISPLAY_NAME, "id": str(uuid4())}}}}]
    meeting = {"@odata.type": "#microsoft.graph.tokenMeetingInfo", "token": MEETING_TOKEN}
    signed = {"Authorization": f"Bearer {token}"}
    await app.notify(
        about_call(call_id, state="established", meetingInfo=meeting, targets=people, source=people[0]),  # type: ignore[arg-type] # JSON
        about_operation(
            call_id,
            operation_id,
            status="completed",
            recordingLocation=RECORDING_PLACE,
            recordingAccessToken=RECORDING_TOKEN,
        ),
        headers=signed,
    )
    wish: Any = {"prompts": [{"mediaInfo": {"uri": PROMPT}}]}
    await app.ask("POST", f"calls/{call_id}/record", wish, expect=202)
    await app.ask("POST", "keep-alive", expect=200)
    for path in ("", "/events", "/operations", f"/operations/{operation_id}"):
        await app.ask("GET", f"calls/{call_id}{path}", expect=200)
    await app.ask("GET", f"calls?tenantId={app.tenant}", expect=200)


async def _fail(app: App, call_id: str, token: str) -> None:
    """Everything that can go wrong, with secrets where they could be repeated."""
    await app.simulator.fault(callId=call_id, status=403, subcode=7504, message=f"refused: Bearer {token}")
    await app.ask("POST", f"calls/{call_id}/hangup", expect=502)
    await app.ask("POST", "keep-alive", expect=200)
    await app.simulator.control("DELETE", "/faults")
    await app.simulator.fault(callId=call_id, dropConnection=True)
    await app.ask("POST", f"calls/{call_id}/record", {}, expect=409)
    await app.simulator.control("DELETE", "/faults")
    await app.simulator.fault(operation="token", status=401, message=CLIENT_SECRET)
    other = str(uuid4())
    await app.ask("PUT", f"calls/{uuid4()}", {"tenantId": other, "startedAt": ago(minutes=31)}, expect=201)
    await app.simulator.control("DELETE", "/faults")
    signed = {"Authorization": f"Bearer {token}"}
    await app.ask("POST", "notifications", {"value": {"displayName": DISPLAY_NAME}}, expect=400, headers=signed)
    bad: Any = {"value": [{"resource": f"/calls/{RECORDING_TOKEN} x", "resourceData": {"token": MEETING_TOKEN}}]}
    await app.ask("POST", "notifications", bad, expect=400, headers=signed)
    await app.ask("POST", "notifications", {"value": []}, expect=401, headers={"Authorization": f"Bearer {token}x"})
    wrong = json.dumps({"tenantId": CLIENT_SECRET, "metadata": {"name": [DISPLAY_NAME]}})
    answer = await app.http.put(f"/api/calls/{call_id}", content=wrong, headers=KEY)
    assert answer.status_code == 400
    await asyncio.sleep(0)


async def test_an_unexpected_error_is_told_by_its_kind_and_place_alone(
    app: App, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_call_id: str) -> None:
        raise RuntimeError(MEETING_TOKEN)

    monkeypatch.setattr(app.parts.management.records, "read_call", broken)
    caplog.set_level(logging.DEBUG)
    problem = await app.asked("GET", "calls/x", expect=500)
    assert MEETING_TOKEN not in str(problem)
    lines = _lines(caplog)
    assert any("request.failed" in line and "RuntimeError" in line for line in lines)
    assert not [line for line in lines if MEETING_TOKEN in line]
