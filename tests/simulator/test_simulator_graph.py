"""Graph's routes: creation, answer, recordings, prompts, permissions and refusals."""

from __future__ import annotations

import io
import wave
from typing import TYPE_CHECKING

import pytest

from tests.simulator.conftest import APP, CALLBACK, TENANT

if TYPE_CHECKING:
    from httpx import Response

    from simulator.wire import Json
    from tests.simulator.conftest import Sim

OTHER_TENANT = "99999999-2222-4333-8444-555555555555"
OTHER_APP = "88888888-7777-4888-9999-aaaaaaaaaaaa"
CALLS = "/v1.0/communications/calls"
MEDIA: dict[str, Json] = {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"}
APP_HOSTED: Json = {"@odata.type": "#microsoft.graph.appHostedMediaConfig", "blob": "<Media Session Configuration>"}
USER: Json = {
    "@odata.type": "#microsoft.graph.invitationParticipantInfo",
    "identity": {
        "@odata.type": "#microsoft.graph.identitySet",
        "user": {"@odata.type": "#microsoft.graph.identity", "displayName": "Somebody", "id": OTHER_APP},
    },
}
BASE_BODY: dict[str, Json] = {
    "@odata.type": "#microsoft.graph.call",
    "callbackUri": CALLBACK,
    "requestedModalities": ["audio"],
    "mediaConfig": MEDIA,
}
PROMPT: Json = {
    "@odata.type": "#microsoft.graph.mediaPrompt",
    "mediaInfo": {"uri": "https://cdn.example/beep.wav", "resourceId": "1D6DE2D4-CD51-4309-8DAA-70768651088E"},
}
# Graph: the examples of the application-post-calls page
CREATIONS: dict[str, dict[str, Json]] = {
    "a user": {
        "targets": [USER],
        "callOptions": {
            "@odata.type": "#microsoft.graph.outgoingCallOptions",
            "isContentSharingNotificationEnabled": True,
        },
    },
    "app-hosted media": {"targets": [USER], "mediaConfig": APP_HOSTED},
    "a group": {
        "direction": "outgoing",
        "subject": "A group call",
        "source": {
            "@odata.type": "#microsoft.graph.participantInfo",
            "identity": {"application": {"displayName": "Bot", "id": APP}},
            "region": None,
            "languageId": None,
        },
        "targets": [USER, USER],
        "mediaConfig": MEDIA | {"removeFromDefaultAudioGroup": False},
    },
    "a meeting": {
        "mediaConfig": MEDIA | {"preFetchMedia": [{"uri": "https://cdn.example/a.wav", "resourceId": OTHER_APP}]},
        "chatInfo": {"@odata.type": "#microsoft.graph.chatInfo", "threadId": "19:meeting@thread.v2", "messageId": "0"},
        "meetingInfo": {
            "@odata.type": "#microsoft.graph.organizerMeetingInfo",
            "organizer": {"user": {"id": OTHER_APP, "displayName": "Somebody", "tenantId": TENANT}},
            "allowConversationWithoutHost": True,
        },
        "tenantId": TENANT,
    },
    "a meeting by its id": {
        "meetingInfo": {
            "@odata.type": "#microsoft.graph.joinMeetingIdMeetingInfo",
            "joinMeetingId": "1234567",
            "passcode": "secret",
        },
        "tenantId": TENANT,
    },
}
# Graph: the example of the call-record page of 2018, with its 1800 seconds
RECORD_2018: dict[str, Json] = {
    "bargeInAllowed": True,
    "clientContext": "d45324c1-fcb5-430a-902c-f20af696537c",
    "prompts": [{"mediaInfo": {"uri": "https://cdn.example/beep.wav", "resourceId": OTHER_APP}, "loop": 5}],
    "maxRecordDurationInSeconds": 1800,
    "initialSilenceTimeoutInSeconds": 10,
    "maxSilenceTimeoutInSeconds": 2,
    "recordingFormat": "wav",
    "playBeep": True,
    "streamWhileRecording": False,
    "stopTones": ["#", "11", "*"],
}
# Graph: the example of today's call-record page
RECORD_RESPONSE: dict[str, Json] = {
    "bargeInAllowed": True,
    "clientContext": "d45324c1-fcb5-430a-902c-f20af696537c",
    "prompts": [PROMPT],
    "maxRecordDurationInSeconds": 10,
    "initialSilenceTimeoutInSeconds": 5,
    "maxSilenceTimeoutInSeconds": 2,
    "playBeep": True,
    "stopTones": ["#", "1", "*"],
}


def error(response: Response) -> tuple[int, str]:
    """Return the status and the error code of a refusal."""
    return response.status_code, str(response.json()["error"]["code"])


@pytest.mark.parametrize("name", CREATIONS)
async def test_each_documented_creation_returns_the_call(sim: Sim, name: str) -> None:
    response = await sim.graph("POST", CALLS, BASE_BODY | CREATIONS[name])

    assert response.status_code == 201, response.text
    call = response.json()
    assert response.headers["location"] == f"http://127.0.0.1:8080{CALLS}/{call['id']}"
    assert (call["state"], call["direction"]) == ("establishing", "outgoing")
    sent = (BASE_BODY | CREATIONS[name]).items()
    assert {member: call[member] for member, _ in sent} == dict(sent)


async def test_a_created_call_is_establishing_and_then_established(sim: Sim) -> None:
    await sim.control("PUT", "/delivery", {"shape": "documented"})
    call_id = (await sim.graph("POST", CALLS, BASE_BODY)).json()["id"]

    assert sim.bot.states == []
    await sim.advance(1)

    assert sim.bot.states == ["establishing", "established"]
    assert sim.bot.items[1] == {
        "@odata.type": "#microsoft.graph.commsNotification",
        "changeType": "updated",
        "resourceUrl": f"/communications/calls/{call_id}",
        "callbackUri": CALLBACK,
        "resourceData": {
            "@odata.type": "#microsoft.graph.call",
            "state": "established",
            "direction": "outgoing",
            "id": call_id,
        },
    }


@pytest.mark.parametrize(
    "root",
    [
        f"/{version}{path}"
        for version in ("v1.0", "beta")
        for path in ("/communications/calls", "/app/calls", f"/applications/{APP}/calls")
    ],
)
async def test_all_paths_of_graph_serve_the_same_calls(sim: Sim, root: str) -> None:
    call_id = await sim.create()

    assert (await sim.graph("GET", f"{root}/{call_id}")).json()["id"] == call_id
    assert (await sim.graph("POST", f"{root}/{call_id}/keepAlive")).status_code == 200
    assert (await sim.graph("DELETE", f"{root}/{call_id}")).status_code == 204


async def test_the_end_is_notified_as_documented_on_the_delete_page(sim: Sim) -> None:
    await sim.control("PUT", "/delivery", {"shape": "documented"})
    call_id = await sim.create()
    await sim.graph("DELETE", f"{CALLS}/{call_id}")
    await sim.advance(1)

    item: dict[str, Json] = {
        "@odata.type": "#microsoft.graph.commsNotification",
        "resourceUrl": f"/communications/calls/{call_id}",
    }
    call: dict[str, Json] = {"@odata.type": "#microsoft.graph.call"}
    result = {
        "@odata.type": "#microsoft.graph.resultInfo",
        "code": "200",
        "subcode": "5001",
        "message": "The conversation has ended.",
    }
    assert sim.bot.items[-2:] == [
        item | {"changeType": "updated", "resourceData": call | {"state": "terminating"}},
        item | {"changeType": "deleted", "resourceData": call | {"state": "terminated", "resultInfo": result}},
    ]


async def test_the_end_is_notified_as_observed_with_numbers_and_a_diag_code(sim: Sim) -> None:
    call_id = await sim.create()
    await sim.control("POST", f"/calls/{call_id}/end", {"subcode": 5010})
    await sim.advance(0)

    item = sim.bot.items[-1]
    assert (item["resource"], item["resourceUrl"]) == (f"/app/calls/{call_id}", f"/communications/calls/{call_id}")
    data = item["resourceData"]
    assert isinstance(data, dict)
    assert {"callChainId", "meetingCapability", "coOrganizers"} < set(data)
    assert not {"id", "tenantId"} & set(data)
    assert data["resultInfo"] == {
        "@odata.type": "#microsoft.graph.resultInfo",
        "code": 200,
        "subcode": 5010,
        "message": "The conversation has ended. DiagCode: 0#5010.@",
    }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"callbackUrl": CALLBACK}, (400, "BadRequest"), id="misspelt member"),
        pytest.param(
            {"mediaConfig": {"@odata.type": "#microsoft.graph.mediaConfig"}}, (400, "BadRequest"), id="abstract type"
        ),
        pytest.param({"mediaConfig": None}, (400, "BadRequest"), id="no mediaConfig"),
        pytest.param({"requestedModalities": ["sound"]}, (400, "BadRequest"), id="unknown modality"),
        pytest.param({"callbackUri": "http://bot.example/callback"}, (400, "8523"), id="http to another machine"),
        pytest.param({"callbackUri": "bot.example"}, (400, "8523"), id="callbackUri without a scheme"),
        pytest.param({"tenantId": OTHER_TENANT}, (403, "7505"), id="other tenant"),
    ],
)
async def test_a_wrong_creation_is_refused(sim: Sim, change: dict[str, Json], expected: tuple[int, str]) -> None:
    response = await sim.graph("POST", CALLS, BASE_BODY | change)

    assert error(response) == expected
    assert (await sim.control("GET", "/calls"))["value"] == []


async def test_an_incoming_call_can_be_answered_once_within_15_seconds(sim: Sim) -> None:
    call_id = await sim.create(state="incoming")
    body: dict[str, Json] = {
        "callbackUri": CALLBACK + "?second",
        "acceptedModalities": ["audio"],
        "mediaConfig": MEDIA,
        "participantCapacity": 200,
    }
    await sim.advance(15 - 1)

    assert error(await sim.graph("POST", f"{CALLS}/{call_id}/keepAlive")) == (400, "8501")
    answered = await sim.graph("POST", f"{CALLS}/{call_id}/answer", body)
    assert (answered.status_code, answered.content) == (202, b"")
    await sim.advance(1)
    assert error(await sim.graph("POST", f"{CALLS}/{call_id}/answer", body)) == (409, "8585")
    assert sim.bot.states == ["incoming", "establishing", "established", "established"]
    assert (await sim.control("GET", f"/calls/{call_id}"))["callbackUri"] == CALLBACK + "?second"


@pytest.mark.parametrize("reason", ["none", "Busy", "forbidden", None])
async def test_an_incoming_call_can_be_rejected(sim: Sim, reason: str | None) -> None:
    call_id = await sim.create(state="incoming")

    rejected = await sim.graph("POST", f"{CALLS}/{call_id}/reject", {"reason": reason, "callbackUri": CALLBACK + "?2"})
    await sim.advance(0)

    assert (rejected.status_code, rejected.content) == (202, b"")
    assert sim.bot.states == ["incoming", "terminated"]
    view = await sim.control("GET", f"/calls/{call_id}")
    assert (view["code"], view["subcode"], view["callbackUri"]) == (603, 0, CALLBACK + "?2")
    assert error(await sim.graph("POST", f"{CALLS}/{call_id}/reject", {})) == (404, "8522")


async def test_only_an_incoming_call_can_be_rejected_and_only_as_published(sim: Sim) -> None:
    established, incoming = await sim.create(), await sim.create(state="incoming")
    wrong_callback: dict[str, Json] = {"callbackUri": "http://bot.example/callback"}

    assert error(await sim.graph("POST", f"{CALLS}/{established}/reject", {})) == (409, "8585")
    assert error(await sim.graph("POST", f"{CALLS}/{incoming}/reject", {"reason": "bored"})) == (400, "BadRequest")
    assert error(await sim.graph("POST", f"{CALLS}/{incoming}/reject", wrong_callback)) == (400, "8523")


async def test_a_bot_can_answer_hear_a_tone_record_and_hang_up(sim: Sim) -> None:
    """Play the life of a call that a user makes to a bot, with the members that Microsoft's calling SDK sends."""
    call_id = await sim.create(state="incoming")
    answer: dict[str, Json] = {
        "acceptedModalities": ["Audio"],
        "callbackUri": CALLBACK,
        "mediaConfig": MEDIA,
        "participantCapacity": 0,
    }
    assert (await sim.graph("POST", f"{CALLS}/{call_id}/answer", answer)).status_code == 202
    await sim.advance(1)
    subscribed = await sim.graph("POST", f"{CALLS}/{call_id}/subscribeToTone", {"clientContext": "tones"})
    await sim.control("POST", f"/calls/{call_id}/tone", {"tone": "tone1"})
    await sim.control("POST", f"/calls/{call_id}/tone", {"tone": "star"})
    record = RECORD_RESPONSE | {"bargeInAllowed": False}
    assert (await sim.graph("POST", f"{CALLS}/{call_id}/recordResponse", record)).status_code == 200
    await sim.advance(1)
    await sim.control("POST", f"/calls/{call_id}/tone", {"tone": "pound"})
    assert (await sim.graph("DELETE", f"{CALLS}/{call_id}")).status_code == 204
    await sim.advance(60)

    operation = subscribed.json()
    assert operation == {
        "@odata.type": "#microsoft.graph.subscribeToToneOperation",
        "id": operation["id"],
        "status": "completed",
        "clientContext": "tones",
    }
    assert subscribed.headers["location"].endswith(f"/operations/{operation['id']}")
    data = [item["resourceData"] for item in sim.bot.items]
    incoming, *_ = data
    assert isinstance(incoming, dict)
    assert {"source", "targets", "requestedModalities"} < set(incoming)
    tones = [each["toneInfo"] for each in data if isinstance(each, dict) and "toneInfo" in each]
    assert tones == [
        {"@odata.type": "#microsoft.graph.toneInfo", "sequenceId": number, "tone": tone}
        for number, tone in enumerate(["tone1", "star", "pound"], start=1)
    ]
    recorded = [each for each in data if isinstance(each, dict) and "recordingLocation" in each]
    assert [each["status"] for each in recorded] == ["completed"]
    assert "'subcode': 8514" in str(recorded), "the pound key is a stop tone of the recording"
    assert [state for state in sim.bot.states if state in {"incoming", "established", "terminated"}] == [
        *("incoming", "established", "established"),
        *("established", "established", "established"),  # three tones
        "terminated",
    ]


async def test_a_tone_that_the_bot_does_not_hear_is_a_problem(sim: Sim) -> None:
    call_id = await sim.create()

    refused = await sim.control("POST", f"/calls/{call_id}/tone", {"tone": "tone1"}, expect=409)

    assert "subscribeToTone" in str(refused["detail"])
    await sim.graph("POST", f"{CALLS}/{call_id}/recordResponse", {"stopTones": ["1"], "maxRecordDurationInSeconds": 60})
    await sim.control("POST", f"/calls/{call_id}/tone", {"tone": "tone2"}, expect=409)
    await sim.control("POST", f"/calls/{call_id}/tone", {"tone": "tone1"})
    await sim.advance(0)
    assert [item["changeType"] for item in sim.bot.items] == ["updated", "deleted"], "the recording, and no tone"


async def test_tones_need_the_media_permission_and_an_established_call(sim: Sim) -> None:
    established, incoming = await sim.create(), await sim.create(state="incoming")
    without_media = await sim.token(roles=["Calls.Initiate.All"])

    refused = await sim.graph("POST", f"{CALLS}/{established}/subscribeToTone", {}, token=without_media)
    assert error(refused) == (403, "7504")
    assert error(await sim.graph("POST", f"{CALLS}/{incoming}/subscribeToTone", {})) == (400, "8501")


async def test_enum_values_may_have_a_capital_as_microsofts_sdk_sends_them(sim: Sim) -> None:
    body = BASE_BODY | {"direction": "Outgoing", "requestedModalities": ["Audio", "VideoBasedScreenSharing"]}

    created = await sim.graph("POST", CALLS, body)

    assert created.status_code == 201, created.text
    assert created.json()["requestedModalities"] == ["audio", "videoBasedScreenSharing"]


async def test_an_unanswered_incoming_call_ends_after_15_seconds(sim: Sim) -> None:
    call_id = await sim.create(state="incoming")

    await sim.advance(15)

    assert (await sim.control("GET", f"/calls/{call_id}"))["subcode"] == 8587


async def test_an_incoming_call_is_notified_as_documented_on_the_answer_page(sim: Sim) -> None:
    await sim.control("PUT", "/delivery", {"shape": "documented"})
    source: Json = {"identity": {"user": {"displayName": "Somebody", "id": OTHER_APP}}, "region": "westus"}
    call_id = await sim.create(state="incoming", details={"source": source, "requestedModalities": ["audio"]})
    await sim.advance(0)

    url = f"/communications/calls/{call_id.replace('-', '').upper()}"
    assert sim.bot.items == [
        {
            "@odata.type": "#microsoft.graph.commsNotification",
            "changeType": "created",
            "resourceUrl": url,
            "resourceData": {
                "@odata.type": "#microsoft.graph.call",
                "@odata.id": url,
                "@odata.etag": 'W/"5445"',
                "state": "incoming",
                "direction": "incoming",
                "source": source,
                "requestedModalities": ["audio"],
            },
        }
    ]


async def test_a_recording_is_accepted_and_notified_as_documented(sim: Sim) -> None:
    await sim.control("PUT", "/delivery", {"shape": "documented"})
    call_id = await sim.create()
    response = await sim.graph("POST", f"{CALLS}/{call_id}/recordResponse", RECORD_RESPONSE)
    operation_id = response.json()["id"]

    assert response.status_code == 200
    assert response.headers["location"] == f"http://127.0.0.1:8080{CALLS}/{call_id}/operations/{operation_id}"
    assert response.json() == {
        "@odata.type": "#microsoft.graph.recordOperation",
        "id": operation_id,
        "status": "running",
        "resultInfo": None,
        "recordingLocation": None,
        "clientContext": RECORD_RESPONSE["clientContext"],
    }
    duration = 2 + 10  # a prompt and maxRecordDurationInSeconds
    await sim.advance(duration - 1)
    assert len(sim.bot.items) == 1, "only that the call is established"
    await sim.advance(1)

    item = sim.bot.items[-1]
    data = item["resourceData"]
    assert isinstance(data, dict)
    upper = [each.replace("-", "").upper() for each in (call_id, operation_id)]
    url = f"/communications/calls/{upper[0]}/operations/{upper[1]}"
    assert (item["changeType"], item["resourceUrl"]) == ("deleted", url)
    assert "resource" not in item
    assert data | {"recordingLocation": "", "recordingAccessToken": ""} == {
        "@odata.type": "#microsoft.graph.recordOperation",
        "@odata.id": url,
        "@odata.etag": 'W/"54451"',
        "id": operation_id,
        "clientContext": RECORD_RESPONSE["clientContext"],
        "status": "completed",
        "resultInfo": {
            "@odata.type": "#microsoft.graph.resultInfo",
            "code": 200,
            "subcode": 8515,
            "message": "Action completed, max record duration reached.",
        },
        "recordingLocation": "",
        "recordingAccessToken": "",
    }
    again = await sim.graph("GET", response.headers["location"])
    assert (again.status_code, again.json()["status"]) == (200, "completed")


async def test_a_recording_can_be_downloaded_with_its_own_token_until_5_minutes_after_the_call(sim: Sim) -> None:
    call_id = await sim.create()
    await sim.graph("POST", f"{CALLS}/{call_id}/recordResponse", {"maxRecordDurationInSeconds": 3})
    await sim.advance(3)
    data = sim.bot.items[-1]["resourceData"]
    assert isinstance(data, dict)
    location, token = str(data["recordingLocation"]), str(data["recordingAccessToken"])

    assert (await sim.graph("GET", location)).status_code == 401
    response = await sim.graph("GET", location, token=token)

    assert response.headers["content-type"] == "application/octet-stream"
    assert "content-length" not in response.headers
    with wave.open(io.BytesIO(response.content)) as file:
        assert file.getnframes() / file.getframerate() == 3
    await sim.control("POST", f"/calls/{call_id}/end")
    assert (await sim.graph("GET", location, token=token)).status_code == 200
    await sim.advance(5 * 60 + 1)
    assert (await sim.graph("GET", location, token=token)).status_code == 404


async def test_the_record_action_of_2018_is_accepted_and_notified_as_documented(sim: Sim) -> None:
    call_id = await sim.create()
    response = await sim.graph("POST", f"/beta/app/calls/{call_id}/record", RECORD_2018)

    location = response.headers["location"]
    assert (response.status_code, response.content) == (202, b"")
    assert location.startswith(f"http://127.0.0.1:8080/beta/app/calls/{call_id}/operations/")
    operation_id = location.rpartition("/")[2]
    await sim.control("POST", f"/calls/{call_id}/operations/{operation_id}/finish")
    await sim.advance(0)

    upper = [each.replace("-", "").upper() for each in (call_id, operation_id)]
    url = f"/app/calls/{upper[0]}/operations/{upper[1]}"
    item = sim.bot.items[-1]
    data = item["resourceData"]
    assert isinstance(data, dict)
    assert (set(item), item["changeType"], item["resource"]) == (
        {"changeType", "resource", "resourceData"},
        "deleted",
        url,
    )
    assert set(data) == {
        *("@odata.type", "@odata.id", "@odata.etag", "clientContext", "status"),
        *("recordResourceLocation", "recordResourceAccessToken", "completionReason"),
    }
    assert (data["@odata.id"], data["status"], data["completionReason"]) == (url, "completed", "stopToneDetected")


async def test_streaming_while_recording_notifies_the_location_at_once(sim: Sim) -> None:
    call_id = await sim.create()
    path = f"/beta/applications/{APP}/calls/{call_id}/record"
    await sim.graph("POST", path, RECORD_2018 | {"streamWhileRecording": True, "prompts": []})
    await sim.advance(0)

    data = sim.bot.items[-1]["resourceData"]
    assert isinstance(data, dict)
    assert data["status"] == "running"
    assert str(data["recordResourceLocation"]).startswith("http://127.0.0.1:8080/recordings/")


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        pytest.param({"maxRecordDurationInSeconds": 1 - 1}, "8523", id="duration below 1"),
        pytest.param({"maxRecordDurationInSeconds": 120 + 1}, "8523", id="duration above 120"),
        pytest.param({"initialSilenceTimeoutInSeconds": 120 + 1}, "8523", id="initial silence above 120"),
        pytest.param({"maxSilenceTimeoutInSeconds": 1 - 1}, "8523", id="silence below 1"),
        pytest.param({"prompts": [PROMPT, PROMPT]}, "8523", id="two prompts"),
        pytest.param({"clientContext": "x" * (256 + 1)}, "8523", id="clientContext above 256"),
        pytest.param({"maxRecordDurationInSeconds": "10"}, "BadRequest", id="number as text"),
        pytest.param({"playBeep": "yes"}, "BadRequest", id="boolean as text"),
        pytest.param({"stopTones": "#"}, "BadRequest", id="list as text"),
        pytest.param({"maxDurationInSeconds": 10}, "BadRequest", id="unknown member"),
        pytest.param({"streamWhileRecording": True}, "BadRequest", id="stream of 2018"),
        pytest.param({"recordingFormat": "wav"}, "BadRequest", id="format of 2018"),
        pytest.param({"prompts": [{"@odata.type": "#microsoft.graph.prompt"}]}, "BadRequest", id="abstract prompt"),
    ],
)
async def test_a_parameter_that_is_unknown_or_outside_of_its_limits_is_refused(
    sim: Sim, wrong: dict[str, Json], code: str
) -> None:
    call_id = await sim.create()

    response = await sim.graph("POST", f"{CALLS}/{call_id}/recordResponse", wrong)

    assert error(response) == (400, code)
    assert next(iter(wrong)) in response.json()["error"]["message"]
    assert (await sim.control("GET", f"/calls/{call_id}"))["operations"] == []


@pytest.mark.parametrize(
    "limit",
    [{"maxRecordDurationInSeconds": 120}, {"clientContext": "x" * 256}, {}],
    ids=["duration of 120", "clientContext of 256", "defaults"],
)
async def test_a_parameter_at_its_limit_is_accepted(sim: Sim, limit: dict[str, Json]) -> None:
    call_id = await sim.create()
    assert (await sim.graph("POST", f"{CALLS}/{call_id}/recordResponse", limit)).status_code == 200


async def test_a_body_that_is_no_json_is_refused(sim: Sim) -> None:
    call_id = await sim.create()
    headers = {"Authorization": f"Bearer {await sim.token()}"}
    response = await sim.http.post(f"{CALLS}/{call_id}/recordResponse", content=b"{", headers=headers)
    assert error(response) == (400, "BadRequest")


async def test_media_operations_queue_and_a_recording_with_barge_in_cancels_them(sim: Sim) -> None:
    call_id = await sim.create()
    path = f"{CALLS}/{call_id}"
    first = (await sim.graph("POST", f"{path}/playPrompt", {"prompts": [PROMPT, PROMPT]})).json()
    second = (await sim.graph("POST", f"{path}/recordResponse", {"maxRecordDurationInSeconds": 5})).json()
    assert (first["status"], second["status"]) == ("running", "notStarted")
    await sim.advance(2 * 2)  # two prompts
    assert _operations(await sim.control("GET", f"/calls/{call_id}")) == [("completed", 0), ("running", None)]

    await sim.graph("POST", f"{path}/recordResponse", {"maxRecordDurationInSeconds": 5, "bargeInAllowed": True})
    await sim.advance(5)

    call = await sim.control("GET", f"/calls/{call_id}")
    assert _operations(call) == [("completed", 0), ("failed", 8508), ("completed", 8515)]


async def test_a_cancellation_is_accepted_and_notified_as_documented(sim: Sim) -> None:
    call_id = await sim.create()
    await sim.graph("POST", f"{CALLS}/{call_id}/recordResponse", {"clientContext": "mine"})

    response = await sim.graph("POST", f"{CALLS}/{call_id}/cancelMediaProcessing", {"clientContext": "other"})
    await sim.advance(60)

    assert response.status_code == 200
    assert {member: response.json()[member] for member in ("@odata.type", "status", "clientContext")} == {
        "@odata.type": "#microsoft.graph.cancelMediaProcessingOperation",
        "status": "completed",
        "clientContext": "other",
    }
    data = sim.bot.items[-1]["resourceData"]
    assert isinstance(data, dict)
    assert {name: data[name] for name in data if not name.startswith("@") and name != "id"} == {
        "clientContext": "mine",
        "status": "failed",
        "resultInfo": {
            "@odata.type": "#microsoft.graph.resultInfo",
            "code": 400,
            "subcode": 8508,
            "message": "Action failed, the operation was cancelled.",
        },
        "recordingLocation": "",
        "recordingAccessToken": "",
        "completionReason": "operationCanceled",
    }
    assert len(sim.bot.items) == 2  # established, and this one; the cancel operation is not notified


async def test_a_recording_never_completes_if_its_call_ends(sim: Sim) -> None:
    call_id = await sim.create()
    await sim.graph("POST", f"{CALLS}/{call_id}/recordResponse", {})
    await sim.control("POST", f"/calls/{call_id}/end")

    await sim.advance(3600)

    assert _operations(await sim.control("GET", f"/calls/{call_id}")) == [("running", None)]
    assert sim.bot.states == ["established", "terminated"]


@pytest.mark.parametrize("action", ["recordResponse", "playPrompt", "cancelMediaProcessing", "record"])
async def test_media_needs_an_established_call_with_service_hosted_media(sim: Sim, action: str) -> None:
    body: dict[str, Json] = {"prompts": [PROMPT]} if action == "playPrompt" else {}
    establishing = await sim.create(state="establishing")
    app_hosted = await sim.create(details={"mediaConfig": APP_HOSTED})

    assert error(await sim.graph("POST", f"{CALLS}/{establishing}/{action}", body)) == (400, "8501")
    assert error(await sim.graph("POST", f"{CALLS}/{app_hosted}/{action}", body)) == (400, "BadRequest")


async def test_an_unknown_operation_is_not_found(sim: Sim) -> None:
    call_id = await sim.create()
    assert (await sim.graph("GET", f"{CALLS}/{call_id}/operations/{OTHER_APP}")).status_code == 404


async def test_a_call_of_another_app_is_not_found(sim: Sim) -> None:
    call_id = await sim.create()
    response = await sim.graph("GET", f"{CALLS}/{call_id}", token=await sim.token(app_id=OTHER_APP))
    assert error(response) == (404, "8522")
    in_path = await sim.graph("GET", f"/v1.0/applications/{OTHER_APP}/calls/{call_id}")
    assert in_path.status_code == 404


async def test_a_token_of_another_tenant_is_refused(sim: Sim) -> None:
    call_id = await sim.create()
    response = await sim.graph("POST", f"{CALLS}/{call_id}/keepAlive", token=await sim.token(tenant_id=OTHER_TENANT))
    assert error(response) == (403, "7505")
    assert (await sim.control("GET", f"/calls/{call_id}"))["keepAlives"] == 0


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", CALLS, BASE_BODY), ("POST", "recordResponse", {}), ("POST", "record", {})],
    ids=["create", "recordResponse", "record"],
)
async def test_a_missing_role_is_refused_with_7504(sim: Sim, method: str, path: str, body: dict[str, Json]) -> None:
    call_id = await sim.create()
    token = await sim.token(roles=["Calls.JoinGroupCalls.Chat"])
    response = await sim.graph(method, path if path == CALLS else f"{CALLS}/{call_id}/{path}", body, token=token)
    assert error(response) == (403, "7504")


async def test_app_hosted_media_needs_its_own_role(sim: Sim) -> None:
    token = await sim.token(roles=["Calls.Initiate.All"])
    response = await sim.graph("POST", CALLS, BASE_BODY | {"mediaConfig": APP_HOSTED}, token=token)
    assert error(response) == (403, "7504")


async def test_keep_alive_and_hang_up_need_no_role(sim: Sim) -> None:
    call_id = await sim.create()
    token = await sim.token(roles=[])
    assert (await sim.graph("POST", f"{CALLS}/{call_id}/keepAlive", token=token)).status_code == 200
    assert (await sim.graph("DELETE", f"{CALLS}/{call_id}", token=token)).status_code == 204


@pytest.mark.parametrize(
    "wrong",
    [
        {"audience": "api://another"},
        {"issuer": "https://login.example/else"},
        {"expiresIn": -1},
        {"kind": "notification"},
    ],
    ids=["other audience", "other issuer", "expired", "token of a notification"],
)
async def test_a_token_that_is_not_valid_for_graph_is_refused(sim: Sim, wrong: dict[str, Json]) -> None:
    call_id = await sim.create()
    body = {"kind": "entra", "appId": APP, "tenantId": TENANT} | wrong
    token = str((await sim.control("POST", "/tokens", body))["token"])
    response = await sim.graph("GET", f"{CALLS}/{call_id}", token=token)
    assert error(response) == (401, "InvalidAuthenticationToken")
    assert response.headers["www-authenticate"].startswith("Bearer ")


async def test_a_token_with_a_changed_signature_or_payload_is_refused(sim: Sim) -> None:
    call_id, token = await sim.create(), await sim.token()
    head, _, signature = token.split(".")
    other = (await sim.token(tenant_id=OTHER_TENANT)).split(".")[1]
    for changed in (token[:-8] + "AAAAAAAA", f"{head}.{other}.{signature}"):
        response = await sim.graph("GET", f"{CALLS}/{call_id}", token=changed)
        assert error(response) == (401, "InvalidAuthenticationToken")


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Basic eDp5", "Bearer", "Bearer x", "Bearer x.y.z"],
    ids=["no header", "empty", "other scheme", "no token", "no JWT", "unreadable JWT"],
)
async def test_a_request_without_a_jwt_is_refused(sim: Sim, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    response = await sim.http.get(f"{CALLS}/x", headers=headers)
    assert error(response) == (401, "InvalidAuthenticationToken")


async def test_every_response_has_the_ids_of_its_request(sim: Sim) -> None:
    call_id = await sim.create()
    good = await sim.graph("POST", f"{CALLS}/{call_id}/keepAlive", request_id="mine")
    bad = await sim.graph("POST", f"{CALLS}/{OTHER_APP}/keepAlive", request_id="mine")

    assert good.headers["client-request-id"] == bad.headers["client-request-id"] == "mine"
    assert good.headers["request-id"] != bad.headers["request-id"]
    inner = bad.json()["error"]["innerError"]
    assert (inner["request-id"], inner["client-request-id"]) == (bad.headers["request-id"], "mine")
    assert set(inner) == {"request-id", "client-request-id", "date"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", CALLS, 405), ("POST", f"{CALLS}/x/noSuchAction", 404), ("GET", "/v1.0/me", 404), ("GET", "/", 404)],
    ids=["unknown method", "unknown action", "other API of Graph", "root"],
)
async def test_an_unsupported_route_is_refused_with_graphs_error(sim: Sim, method: str, path: str, status: int) -> None:
    response = await sim.graph(method, path)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"code", "message", "innerError"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("POST", "/v1.0/communications/calls/{}/keepAlive", 200, id="keepAlive"),
        pytest.param("GET", "/v1.0/communications/calls/{}", 200, id="get"),
        pytest.param("POST", "/v1.0/communications/calls/{}/recordResponse", 200, id="recordResponse"),
        pytest.param("POST", "/beta/communications/calls/{}/record", 202, id="record"),
        pytest.param("DELETE", "/v1.0/communications/calls/{}", 204, id="delete"),
        pytest.param("POST", "/v1.0/communications/calls/unknown/keepAlive", 404, id="unknown call"),
        pytest.param("PUT", "/v1.0/communications/calls/{}/keepAlive", 405, id="unknown method"),
        pytest.param("POST", "/v2.0/communications/calls/{}/keepAlive", 404, id="unknown version"),
    ],
)
async def test_each_response_has_a_request_id_and_is_no_page(sim: Sim, method: str, path: str, status: int) -> None:
    call_id = await sim.create(state="established")
    response = await sim.graph(method, path.format(call_id), {} if "record" in path else None)
    assert response.status_code == status
    assert len(response.headers["request-id"]) == len(TENANT), "a GUID"
    assert "html" not in response.headers.get("content-type", "")


def _operations(call: dict[str, Json]) -> list[tuple[Json, Json]]:
    operations = call["operations"]
    assert isinstance(operations, list)
    return [(each["status"], each["subcode"]) for each in operations if isinstance(each, dict)]
