"""Recording a participant's answer."""

from typing import Any
from urllib.parse import quote

import pytest

from shared.errors import StoreUnavailable
from shared.services import Services
from shared.storage.changes import Committed
from shared.storage.store import CallStore, Change
from tests.functions.harness import KEY, App, about_call, about_operation, with_store
from tests.support.recording_examples import RECORD_OF_2018

NEW_EXAMPLE = {
    "bargeInAllowed": True,
    "clientContext": "d45324c1-fcb5-430a-902c-f20af696537c",
    "maxRecordDurationInSeconds": 20,
    "initialSilenceTimeoutInSeconds": 5,
    "maxSilenceTimeoutInSeconds": 2,
    "playBeep": True,
    "prompts": [{"mediaInfo": {"uri": "https://cdn.contoso.com/beep.wav"}}],
    "stopTones": ["#", "1", "*"],
}


async def test_a_recording_is_started_and_its_location_is_returned(app: App) -> None:
    call_id = await app.register()
    answer = await app.ask("POST", f"calls/{call_id}/record", NEW_EXAMPLE, expect=202)  # type: ignore[arg-type] # JSON
    operation = answer.json()
    place = f"/api/calls/{call_id}/operations/{operation['id']}"
    assert answer.headers["location"] == place
    assert (operation["status"], operation["kind"]) == ("running", "recordOperation")
    assert operation["clientContext"] == RECORD_OF_2018["clientContext"]
    assert (operation["requestedBy"], operation["recordingLocation"]) == ("function key", None)
    assert (await app.http.get(place, headers=KEY)).json() == operation
    assert await app.lines(call_id, "record") == [
        ("recordRequested", {"requestedBy": "function key"}),
        ("recordAnswered", {"requestedBy": "function key", "outcome": "accepted", "operationId": operation["id"]}),
    ]


async def test_an_empty_body_has_graphs_defaults(app: App) -> None:
    call_id = await app.register()
    for content in (b"", b"{}"):
        answer = await app.http.post(f"/api/calls/{call_id}/record", content=content, headers=KEY)
        assert answer.status_code == 202


async def test_a_client_context_of_our_own_is_not_shown(app: App) -> None:
    call_id = await app.simulator.call(app.tenant, callbackUri=f"{app.address}/api/notifications")
    await app.http.put(f"/api/calls/{call_id}", json={"tenantId": app.tenant}, headers=KEY)
    started: Any = await app.asked("POST", f"calls/{call_id}/record", {}, expect=202)
    await app.simulator.control("POST", f"/calls/{call_id}/operations/{started['id']}/finish", {})
    await app.simulator.control("POST", "/clock", {"advance": 0})  # answers when all is delivered
    stored = await app.parts.store.get_operation(call_id, started["id"])
    assert stored is not None
    assert (stored.value.status, str(stored.value.client_context)[:12]) == ("completed", "call-keeper:")
    listed: Any = await app.asked("GET", f"calls/{call_id}/operations")
    read: Any = await app.asked("GET", f"calls/{call_id}/operations/{started['id']}")
    assert [view["clientContext"] for view in (started, *listed["value"], read)] == [None] * 3


async def test_a_recording_is_completed_by_its_notification(app: App) -> None:
    call_id = await app.simulator.call(app.tenant, callbackUri=f"{app.address}/api/notifications")
    await app.http.put(f"/api/calls/{call_id}", json={"tenantId": app.tenant}, headers=KEY)
    started: Any = await app.asked("POST", f"calls/{call_id}/record", {"maxRecordDurationInSeconds": 10}, expect=202)
    await app.simulator.control("POST", f"/calls/{call_id}/operations/{started['id']}/finish", {})
    await app.simulator.control("POST", "/clock", {"advance": 0})  # answers when all is delivered
    done: Any = await app.asked("GET", f"calls/{call_id}/operations/{started['id']}")
    assert (done["status"], done["completionReason"]) == ("completed", "stopToneDetected")
    assert (done["code"], done["subcode"]) == (200, 8514)
    assert done["recordingAccessToken"]
    audio = await app.simulator.http.get(
        done["recordingLocation"], headers={"Authorization": f"Bearer {done['recordingAccessToken']}"}
    )
    assert audio.content.startswith(b"RIFF")


async def test_the_older_record_takes_the_example_of_its_page(app: App) -> None:
    async with app.configured(GRAPH_RECORD_API="record") as old:
        call_id = await old.register()
        answer = await old.ask("POST", f"calls/{call_id}/record", RECORD_OF_2018, expect=202)  # type: ignore[arg-type] # JSON
        operation = answer.json()
        assert answer.headers["location"].endswith(f"/operations/{operation['id']}")
        assert operation["status"] == "running"
        requests: Any = await old.simulator.control("GET", f"/requests?operation=record&callId={call_id}")
        assert [request["status"] for request in requests["value"]] == [202]


async def test_the_newer_action_refuses_the_older_values(app: App) -> None:
    call_id = await app.register()
    problem: Any = await app.asked("POST", f"calls/{call_id}/record", RECORD_OF_2018, expect=400)  # type: ignore[arg-type] # JSON
    assert {error["pointer"] for error in problem["errors"]} == {
        "/prompts/0/loop",
        "/maxRecordDurationInSeconds",
        "/recordingFormat",
        "/streamWhileRecording",
        "/stopTones/1",
    }


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        pytest.param(b"[1", "", id="not JSON"),
        pytest.param(
            b'{"maxRecordDurationInSeconds": 121}', "/maxRecordDurationInSeconds", id="duration of 120 + 1 seconds"
        ),
        pytest.param(b'{"maxRecordDurationInSeconds": 0}', "/maxRecordDurationInSeconds", id="duration of 0 seconds"),
        pytest.param(
            b'{"initialSilenceTimeoutInSeconds": 1.5}', "/initialSilenceTimeoutInSeconds", id="silence with a fraction"
        ),
        pytest.param(b'{"maxSilenceTimeoutInSeconds": "2"}', "/maxSilenceTimeoutInSeconds", id="silence as text"),
        pytest.param(
            b'{"prompts": [{"mediaInfo": {"uri": "http://x.example/a.wav"}}]}',
            "/prompts/0/mediaInfo/uri",
            id="prompt over http",
        ),
        pytest.param(b'{"prompts": [{}]}', "/prompts/0/mediaInfo", id="prompt without mediaInfo"),
        pytest.param(b'{"stopTones": ["##"]}', "/stopTones/0", id="stop tone of two characters"),
        pytest.param(
            b'{"clientContext": "%s"}' % (b"x" * (256 + 1)), "/clientContext", id="clientContext of 256 + 1 characters"
        ),
        pytest.param(b'{"surprise": 1}', "/surprise", id="unknown member"),
    ],
)
async def test_an_invalid_body_is_refused_before_graph_is_asked(app: App, body: bytes, pointer: str) -> None:
    call_id = await app.register()
    answer = await app.http.post(f"/api/calls/{call_id}/record", content=body, headers=KEY)
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    asked: Any = await app.simulator.control("GET", f"/requests?callId={call_id}")
    assert asked["value"] == []


async def test_an_ended_call_is_a_conflict(app: App) -> None:
    call_id = await app.register()
    await app.notify(about_call(call_id, "deleted", state="terminated"))
    problem = await app.asked("POST", f"calls/{call_id}/record", {}, expect=409)
    assert "has ended" in str(problem["detail"])


@pytest.mark.parametrize(
    ("fault", "status", "graph", "outcome"),
    [
        pytest.param({"status": 400, "subcode": 8501}, 502, 400, "refused", id="400"),
        pytest.param({"status": 403, "subcode": 7504}, 502, 403, "refused", id="403"),
        pytest.param({"status": 404}, 502, 404, "notFound", id="404"),
        pytest.param({"status": 429, "retryAfter": "7"}, 503, 429, "refused", id="429"),
        pytest.param({"dropConnection": True}, 409, None, "unknown", id="dropped connection"),
        pytest.param({"status": 503, "responseOnly": True}, 409, 503, "unknown", id="503 after the recording started"),
        pytest.param({"status": 504, "proxyResponse": "page"}, 409, 504, "unknown", id="504 of a gateway"),
    ],
)
async def test_graphs_refusal_is_returned(
    app: App, fault: dict[str, Any], status: int, graph: int | None, outcome: str
) -> None:
    call_id = await app.register()
    await app.simulator.fault(operation="recordResponse", callId=call_id, **fault)
    answer = await app.ask("POST", f"calls/{call_id}/record", {}, expect=status)
    assert answer.json().get("graphStatus") == graph
    assert (await app.asked("GET", f"calls/{call_id}/operations"))["value"] == []
    (kind, asked), (_, answered) = await app.lines(call_id, "record")
    assert (kind, asked) == ("recordRequested", {"requestedBy": "function key"})
    assert (answered["requestedBy"], answered["outcome"]) == ("function key", outcome)


async def test_a_notification_that_overtakes_the_answer_is_kept(app: App) -> None:
    """The operation is finished before its request is stored."""
    call_id = await app.register()

    class Overtaken(CallStore):
        notified = False

        async def commit(self, change: Change) -> Committed:
            if change.operations and not self.notified:
                self.notified = True
                operation_id = change.operations[0][1].id
                await app.notify(
                    about_operation(call_id, operation_id, status="completed", recordingLocation="https://x.example/1")
                )
            return await super().commit(change)

    class Parts(Services):
        @property
        def store(self) -> CallStore:
            kept = vars(self).get("overtaken")
            if kept is None:
                kept = Overtaken.__new__(Overtaken)
                kept._table = super().store._table
                vars(self)["overtaken"] = kept
            assert isinstance(kept, Overtaken)
            return kept

    async with app.configured(Parts) as overtaken:
        operation: Any = await overtaken.asked("POST", f"calls/{call_id}/record", {}, expect=202)
    assert (operation["status"], operation["requestedBy"]) == ("completed", "function key")
    assert operation["recordingLocation"] is None  # its own route alone tells
    shown: Any = await app.asked("GET", f"calls/{call_id}/operations/{operation['id']}")
    assert shown["recordingLocation"] == "https://x.example/1"


async def test_an_operation_id_with_special_characters_is_percent_encoded(app: App) -> None:
    call_id = await app.register()
    await app.notify(about_operation(call_id, "o&1;é", status="running"))
    operation = await app.asked("GET", f"calls/{call_id}/operations/{quote('o&1;é')}")
    assert operation["id"] == "o&1;é"


async def test_graph_is_not_asked_if_the_request_cannot_be_stored(app: App) -> None:
    call_id = await app.register()

    class Full(CallStore):
        async def commit(self, change: Change) -> Committed:
            raise StoreUnavailable(f"Table Storage takes nothing of {change.after.id} (test).")

    async with with_store(app, Full) as troubled:
        await troubled.ask("POST", f"calls/{call_id}/record", {}, expect=503)
        await troubled.ask("POST", f"calls/{call_id}/hangup", expect=503)
    asked: Any = await app.simulator.control("GET", f"/requests?callId={call_id}")
    assert asked["value"] == []
