"""Recording an answer."""

from typing import Any
from urllib.parse import quote

import pytest

from shared.errors import StoreConflict, StoreUnavailable
from shared.services import Services
from shared.storage.store import CallStore, Change
from tests.functions.harness import KEY, App, about_call, about_operation

# Graph: the record page of 2018, its example.
OLD_EXAMPLE = {
    "bargeInAllowed": True,
    "clientContext": "d45324c1-fcb5-430a-902c-f20af696537c",
    "prompts": [
        {
            "@odata.type": "#microsoft.graph.mediaPrompt",
            "mediaInfo": {
                "uri": "https://cdn.contoso.com/beep.wav",
                "resourceId": "1D6DE2D4-CD51-4309-8DAA-70768651088E",
            },
            "loop": 5,
        }
    ],
    "maxRecordDurationInSeconds": 1800,
    "initialSilenceTimeoutInSeconds": 10,
    "maxSilenceTimeoutInSeconds": 2,
    "recordingFormat": "wav",
    "playBeep": True,
    "streamWhileRecording": True,
    "stopTones": ["#", "11", "*"],
}
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


async def test_a_recording_is_started_and_its_place_is_told(app: App) -> None:
    call_id = await app.register()
    answer = await app.ask("POST", f"calls/{call_id}/record", NEW_EXAMPLE, expect=202)  # type: ignore[arg-type] # JSON
    operation = answer.json()
    place = f"/api/calls/{call_id}/operations/{operation['id']}"
    assert answer.headers["location"] == place
    assert (operation["status"], operation["kind"]) == ("running", "recordOperation")
    assert operation["clientContext"] == OLD_EXAMPLE["clientContext"]
    assert (operation["requestedBy"], operation["recordingLocation"]) == ("function key", None)
    assert (await app.http.get(place, headers=KEY)).json() == operation
    assert await app.lines(call_id, "record") == [
        ("recordRequested", {"requestedBy": "function key"}),
        ("recordAnswered", {"requestedBy": "function key", "outcome": "accepted", "operationId": operation["id"]}),
    ]


async def test_without_wishes_graphs_defaults_count(app: App) -> None:
    call_id = await app.register()
    for content in (b"", b"{}"):
        answer = await app.http.post(f"/api/calls/{call_id}/record", content=content, headers=KEY)
        assert answer.status_code == 202


async def test_a_client_context_of_our_own_is_nobodys_to_see(app: App) -> None:
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
        answer = await old.ask("POST", f"calls/{call_id}/record", OLD_EXAMPLE, expect=202)  # type: ignore[arg-type] # JSON
        operation = answer.json()
        assert answer.headers["location"].endswith(f"/operations/{operation['id']}")
        assert operation["status"] == "running"
        requests: Any = await old.simulator.control("GET", f"/requests?operation=record&callId={call_id}")
        assert [request["status"] for request in requests["value"]] == [202]


async def test_the_older_words_are_refused_by_the_newer_action(app: App) -> None:
    call_id = await app.register()
    problem: Any = await app.asked("POST", f"calls/{call_id}/record", OLD_EXAMPLE, expect=400)  # type: ignore[arg-type] # JSON
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
        (b"[1", ""),
        (b'{"maxRecordDurationInSeconds": 121}', "/maxRecordDurationInSeconds"),
        (b'{"maxRecordDurationInSeconds": 0}', "/maxRecordDurationInSeconds"),
        (b'{"initialSilenceTimeoutInSeconds": 1.5}', "/initialSilenceTimeoutInSeconds"),
        (b'{"maxSilenceTimeoutInSeconds": "2"}', "/maxSilenceTimeoutInSeconds"),
        (b'{"prompts": [{"mediaInfo": {"uri": "http://x.example/a.wav"}}]}', "/prompts/0/mediaInfo/uri"),
        (b'{"prompts": [{}]}', "/prompts/0/mediaInfo"),
        (b'{"stopTones": ["##"]}', "/stopTones/0"),
        (b'{"clientContext": "%s"}' % (b"x" * 257), "/clientContext"),
        (b'{"surprise": 1}', "/surprise"),
    ],
)
async def test_a_wish_that_is_off_is_refused_before_graph_is_asked(app: App, body: bytes, pointer: str) -> None:
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
        ({"status": 400, "subcode": 8501}, 502, 400, "refused"),
        ({"status": 403, "subcode": 7504}, 502, 403, "refused"),
        ({"status": 404}, 502, 404, "notFound"),
        ({"status": 429, "retryAfter": "7"}, 503, 429, "refused"),
        ({"dropConnection": True}, 409, None, "unknown"),
        ({"status": 503, "afterwards": True}, 409, 503, "unknown"),
        ({"status": 504, "stranger": "page"}, 409, 504, "unknown"),
    ],
    ids=["400", "403", "404", "429", "dropped", "503", "gateway"],
)
async def test_graphs_refusal_is_told(
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
    """The operation is finished before the request for it is written down."""
    call_id = await app.register()

    class Overtaken(CallStore):
        told = False

        async def commit(self, change: Change) -> None:
            if change.operations and not self.told:
                self.told = True
                operation_id = change.operations[0][1].id
                await app.notify(
                    about_operation(call_id, operation_id, status="completed", recordingLocation="https://x.example/1")
                )
            await super().commit(change)

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
    told: Any = await app.asked("GET", f"calls/{call_id}/operations/{operation['id']}")
    assert told["recordingLocation"] == "https://x.example/1"


async def test_an_odd_operation_id_is_quoted_in_its_place(app: App) -> None:
    call_id = await app.register()
    await app.notify(about_operation(call_id, "o&1;é", status="running"))
    operation = await app.asked("GET", f"calls/{call_id}/operations/{quote('o&1;é')}")
    assert operation["id"] == "o&1;é"


async def test_what_was_started_but_cannot_be_written_down_is_no_reason_to_try_again(app: App) -> None:
    call_id = await app.register()

    class Losing(CallStore):
        async def commit(self, change: Change) -> None:
            if change.operations:
                raise StoreConflict("Somebody else wrote the row (test).")
            await super().commit(change)

    losing = Losing.__new__(Losing)
    losing._table = app.parts.store._table
    async with app.configured() as troubled:
        vars(troubled.parts)["store"] = losing
        problem = await troubled.asked("POST", f"calls/{call_id}/record", {}, expect=409)
        assert "could not be written down" in str(problem["detail"])
        assert problem["type"] == "urn:call-keeper:problem:recording-not-persisted"
        assert await troubled.lines(call_id, "record") == [("recordRequested", {"requestedBy": "function key"})]
        del vars(troubled.parts)["store"]


async def test_where_nobody_can_write_down_who_asks_graph_is_not_asked(app: App) -> None:
    call_id = await app.register()

    class Full(CallStore):
        async def commit(self, change: Change) -> None:
            raise StoreUnavailable(f"Table Storage takes nothing of {change.after.id} (test).")

    full = Full.__new__(Full)
    full._table = app.parts.store._table
    async with app.configured() as troubled:
        vars(troubled.parts)["store"] = full
        await troubled.ask("POST", f"calls/{call_id}/record", {}, expect=503)
        await troubled.ask("POST", f"calls/{call_id}/hangup", expect=503)
        del vars(troubled.parts)["store"]
    asked: Any = await app.simulator.control("GET", f"/requests?callId={call_id}")
    assert asked["value"] == []
