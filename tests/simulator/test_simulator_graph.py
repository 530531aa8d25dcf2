"""Graph's routes: creation, answers, recordings, prompts, and what is refused in which words."""

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
# The examples of the application-post-calls page, by what they show.
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
# The example of the call-record page of 2018, with its 1800 seconds.
OLD_RECORD: dict[str, Json] = {
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
# The example of today's call-record page.
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


def error(answer: Response) -> tuple[int, str]:
    return answer.status_code, str(answer.json()["error"]["code"])


@pytest.mark.parametrize("name", CREATIONS)
async def test_each_documented_creation_is_taken_and_answered_with_the_call(sim: Sim, name: str) -> None:
    answer = await sim.graph("POST", CALLS, BASE_BODY | CREATIONS[name])

    assert answer.status_code == 201, answer.text
    call = answer.json()
    assert answer.headers["location"] == f"http://127.0.0.1:8080{CALLS}/{call['id']}"
    assert (call["state"], call["direction"]) == ("establishing", "outgoing")
    sent = (BASE_BODY | CREATIONS[name]).items()
    assert {member: call[member] for member, _ in sent} == dict(sent)


async def test_a_created_call_is_establishing_and_then_established(sim: Sim) -> None:
    await sim.control("PUT", "/delivery", {"shape": "documented"})
    call_id = (await sim.graph("POST", CALLS, BASE_BODY)).json()["id"]

    assert sim.bot.states == []
    await sim.advance(5)

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
async def test_every_path_of_graphs_history_leads_to_the_same_calls(sim: Sim, root: str) -> None:
    call_id = await sim.create()

    assert (await sim.graph("GET", f"{root}/{call_id}")).json()["id"] == call_id
    assert (await sim.graph("POST", f"{root}/{call_id}/keepAlive")).status_code == 200
    assert (await sim.graph("DELETE", f"{root}/{call_id}")).status_code == 204


async def test_the_end_is_notified_as_the_delete_page_shows_it(sim: Sim) -> None:
    await sim.control("PUT", "/delivery", {"shape": "documented"})
    call_id = await sim.create()
    await sim.graph("DELETE", f"{CALLS}/{call_id}")
    await sim.advance(2)

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


async def test_the_end_is_notified_as_it_is_observed_with_numbers_and_a_diag_code(sim: Sim) -> None:
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
        ({"callbackUrl": CALLBACK}, (400, "BadRequest")),
        ({"mediaConfig": {"@odata.type": "#microsoft.graph.mediaConfig"}}, (400, "BadRequest")),
        ({"mediaConfig": None}, (400, "BadRequest")),
        ({"requestedModalities": ["sound"]}, (400, "BadRequest")),
        ({"callbackUri": "http://bot.example/callback"}, (400, "8523")),
        ({"callbackUri": "bot.example"}, (400, "8523")),
        ({"tenantId": OTHER_TENANT}, (403, "7505")),
    ],
)
async def test_a_wrong_creation_is_refused(sim: Sim, change: dict[str, Json], expected: tuple[int, str]) -> None:
    answer = await sim.graph("POST", CALLS, BASE_BODY | change)

    assert error(answer) == expected
    assert (await sim.control("GET", "/calls"))["value"] == []


async def test_an_incoming_call_can_be_answered_once_within_15_seconds(sim: Sim) -> None:
    call_id = await sim.create(state="incoming")
    answer: dict[str, Json] = {
        "callbackUri": CALLBACK + "?second",
        "acceptedModalities": ["audio"],
        "mediaConfig": MEDIA,
        "participantCapacity": 200,
    }
    await sim.advance(14)

    assert error(await sim.graph("POST", f"{CALLS}/{call_id}/keepAlive")) == (400, "8501")
    taken = await sim.graph("POST", f"{CALLS}/{call_id}/answer", answer)
    assert (taken.status_code, taken.content) == (202, b"")
    await sim.advance(5)
    assert error(await sim.graph("POST", f"{CALLS}/{call_id}/answer", answer)) == (409, "8585")
    assert sim.bot.states == ["incoming", "establishing", "established", "established"]
    assert (await sim.control("GET", f"/calls/{call_id}"))["callbackUri"] == CALLBACK + "?second"


async def test_an_incoming_call_that_nobody_answers_ends(sim: Sim) -> None:
    call_id = await sim.create(state="incoming")

    await sim.advance(15)

    assert (await sim.control("GET", f"/calls/{call_id}"))["subcode"] == 8587


async def test_an_incoming_call_is_notified_as_the_answer_page_shows_it(sim: Sim) -> None:
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


async def test_a_recording_is_answered_and_notified_as_its_page_shows_it(sim: Sim) -> None:
    await sim.control("PUT", "/delivery", {"shape": "documented"})
    call_id = await sim.create()
    answer = await sim.graph("POST", f"{CALLS}/{call_id}/recordResponse", RECORD_RESPONSE)
    operation_id = answer.json()["id"]

    assert answer.status_code == 200
    assert answer.headers["location"] == f"http://127.0.0.1:8080{CALLS}/{call_id}/operations/{operation_id}"
    assert answer.json() == {
        "@odata.type": "#microsoft.graph.recordOperation",
        "id": operation_id,
        "status": "running",
        "resultInfo": None,
        "recordingLocation": None,
        "clientContext": RECORD_RESPONSE["clientContext"],
    }
    await sim.advance(11)
    assert len(sim.bot.items) == 1
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
    again = await sim.graph("GET", answer.headers["location"])
    assert (again.status_code, again.json()["status"]) == (200, "completed")


async def test_a_recording_can_be_fetched_with_its_own_token_until_shortly_after_the_call(sim: Sim) -> None:
    call_id = await sim.create()
    await sim.graph("POST", f"{CALLS}/{call_id}/recordResponse", {"maxRecordDurationInSeconds": 3})
    await sim.advance(3)
    data = sim.bot.items[-1]["resourceData"]
    assert isinstance(data, dict)
    location, token = str(data["recordingLocation"]), str(data["recordingAccessToken"])

    assert (await sim.graph("GET", location)).status_code == 401
    answer = await sim.graph("GET", location, token=token)

    assert answer.headers["content-type"] == "application/octet-stream"
    assert "content-length" not in answer.headers
    with wave.open(io.BytesIO(answer.content)) as file:
        assert file.getnframes() / file.getframerate() == 3
    await sim.control("POST", f"/calls/{call_id}/end")
    assert (await sim.graph("GET", location, token=token)).status_code == 200
    await sim.advance(301)
    assert (await sim.graph("GET", location, token=token)).status_code == 404


async def test_the_old_record_is_answered_and_notified_as_its_page_of_2018_shows_it(sim: Sim) -> None:
    call_id = await sim.create()
    answer = await sim.graph("POST", f"/beta/app/calls/{call_id}/record", OLD_RECORD)

    location = answer.headers["location"]
    assert (answer.status_code, answer.content) == (202, b"")
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


async def test_streaming_while_recording_gives_the_place_at_once(sim: Sim) -> None:
    call_id = await sim.create()
    path = f"/beta/applications/{APP}/calls/{call_id}/record"
    await sim.graph("POST", path, OLD_RECORD | {"streamWhileRecording": True, "prompts": []})
    await sim.advance(0)

    data = sim.bot.items[-1]["resourceData"]
    assert isinstance(data, dict)
    assert data["status"] == "running"
    assert str(data["recordResourceLocation"]).startswith("http://127.0.0.1:8080/recordings/")


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"maxRecordDurationInSeconds": 0}, "8523"),
        ({"maxRecordDurationInSeconds": 121}, "8523"),
        ({"initialSilenceTimeoutInSeconds": 121}, "8523"),
        ({"maxSilenceTimeoutInSeconds": 0}, "8523"),
        ({"prompts": [PROMPT, PROMPT]}, "8523"),
        ({"clientContext": "x" * 257}, "8523"),
        ({"maxRecordDurationInSeconds": "10"}, "BadRequest"),
        ({"playBeep": "yes"}, "BadRequest"),
        ({"stopTones": "#"}, "BadRequest"),
        ({"maxDurationInSeconds": 10}, "BadRequest"),
        ({"streamWhileRecording": True}, "BadRequest"),
        ({"recordingFormat": "wav"}, "BadRequest"),
        ({"prompts": [{"@odata.type": "#microsoft.graph.prompt"}]}, "BadRequest"),
    ],
)
async def test_a_parameter_outside_of_its_limits_or_unknown_is_refused(
    sim: Sim, wrong: dict[str, Json], code: str
) -> None:
    call_id = await sim.create()

    answer = await sim.graph("POST", f"{CALLS}/{call_id}/recordResponse", wrong)

    assert error(answer) == (400, code)
    assert next(iter(wrong)) in answer.json()["error"]["message"]
    assert (await sim.control("GET", f"/calls/{call_id}"))["operations"] == []


@pytest.mark.parametrize("limit", [{"maxRecordDurationInSeconds": 120}, {"clientContext": "x" * 256}, {}])
async def test_a_parameter_at_its_limit_is_taken(sim: Sim, limit: dict[str, Json]) -> None:
    call_id = await sim.create()
    assert (await sim.graph("POST", f"{CALLS}/{call_id}/recordResponse", limit)).status_code == 200


async def test_a_body_that_is_no_json_is_refused(sim: Sim) -> None:
    call_id = await sim.create()
    headers = {"Authorization": f"Bearer {await sim.token()}"}
    answer = await sim.http.post(f"{CALLS}/{call_id}/recordResponse", content=b"{", headers=headers)
    assert error(answer) == (400, "BadRequest")


async def test_media_operations_queue_and_a_barging_recording_takes_their_place(sim: Sim) -> None:
    call_id = await sim.create()
    path = f"{CALLS}/{call_id}"
    first = (await sim.graph("POST", f"{path}/playPrompt", {"prompts": [PROMPT, PROMPT]})).json()
    second = (await sim.graph("POST", f"{path}/recordResponse", {"maxRecordDurationInSeconds": 5})).json()
    assert (first["status"], second["status"]) == ("running", "notStarted")
    await sim.advance(4)
    assert _operations(await sim.control("GET", f"/calls/{call_id}")) == [("completed", 0), ("running", None)]

    await sim.graph("POST", f"{path}/recordResponse", {"maxRecordDurationInSeconds": 5, "bargeInAllowed": True})
    await sim.advance(5)

    call = await sim.control("GET", f"/calls/{call_id}")
    assert _operations(call) == [("completed", 0), ("failed", 8508), ("completed", 8515)]


async def test_cancelling_is_answered_and_notified_as_its_page_shows_it(sim: Sim) -> None:
    call_id = await sim.create()
    await sim.graph("POST", f"{CALLS}/{call_id}/recordResponse", {"clientContext": "mine"})

    answer = await sim.graph("POST", f"{CALLS}/{call_id}/cancelMediaProcessing", {"clientContext": "other"})
    await sim.advance(60)

    assert answer.status_code == 200
    assert {member: answer.json()[member] for member in ("@odata.type", "status", "clientContext")} == {
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
    assert len(sim.bot.items) == 2  # the call's own, and this; a completed answer is not notified


async def test_a_recording_that_a_call_ends_in_never_completes(sim: Sim) -> None:
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


async def test_another_apps_call_does_not_exist(sim: Sim) -> None:
    call_id = await sim.create()
    answer = await sim.graph("GET", f"{CALLS}/{call_id}", token=await sim.token(app_id=OTHER_APP))
    assert error(answer) == (404, "8522")
    in_path = await sim.graph("GET", f"/v1.0/applications/{OTHER_APP}/calls/{call_id}")
    assert in_path.status_code == 404


async def test_another_tenants_token_is_a_mismatch(sim: Sim) -> None:
    call_id = await sim.create()
    answer = await sim.graph("POST", f"{CALLS}/{call_id}/keepAlive", token=await sim.token(tenant_id=OTHER_TENANT))
    assert error(answer) == (403, "7505")
    assert (await sim.control("GET", f"/calls/{call_id}"))["keepAlives"] == 0


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", CALLS, BASE_BODY), ("POST", "recordResponse", {}), ("POST", "record", {})],
)
async def test_a_missing_permission_is_7504(sim: Sim, method: str, path: str, body: dict[str, Json]) -> None:
    call_id = await sim.create()
    token = await sim.token(roles=["Calls.JoinGroupCalls.Chat"])
    answer = await sim.graph(method, path if path == CALLS else f"{CALLS}/{call_id}/{path}", body, token=token)
    assert error(answer) == (403, "7504")


async def test_app_hosted_media_needs_its_own_permission(sim: Sim) -> None:
    token = await sim.token(roles=["Calls.Initiate.All"])
    answer = await sim.graph("POST", CALLS, BASE_BODY | {"mediaConfig": APP_HOSTED}, token=token)
    assert error(answer) == (403, "7504")


async def test_keep_alive_and_hang_up_need_no_permission_beyond_the_creations(sim: Sim) -> None:
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
)
async def test_a_token_that_is_not_for_graph_or_not_valid_is_refused(sim: Sim, wrong: dict[str, Json]) -> None:
    call_id = await sim.create()
    body = {"kind": "entra", "appId": APP, "tenantId": TENANT} | wrong
    token = str((await sim.control("POST", "/tokens", body))["token"])
    answer = await sim.graph("GET", f"{CALLS}/{call_id}", token=token)
    assert error(answer) == (401, "InvalidAuthenticationToken")
    assert answer.headers["www-authenticate"].startswith("Bearer ")


async def test_a_token_with_a_changed_signature_or_content_is_refused(sim: Sim) -> None:
    call_id, token = await sim.create(), await sim.token()
    head, _, signature = token.split(".")
    other = (await sim.token(tenant_id=OTHER_TENANT)).split(".")[1]
    for changed in (token[:-8] + "AAAAAAAA", f"{head}.{other}.{signature}"):
        answer = await sim.graph("GET", f"{CALLS}/{call_id}", token=changed)
        assert error(answer) == (401, "InvalidAuthenticationToken")


@pytest.mark.parametrize("authorization", [None, "", "Basic eDp5", "Bearer", "Bearer x", "Bearer x.y.z"])
async def test_no_token_or_no_jwt_is_refused(sim: Sim, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = await sim.http.get(f"{CALLS}/x", headers=headers)
    assert error(answer) == (401, "InvalidAuthenticationToken")


async def test_every_answer_has_the_ids_of_its_request(sim: Sim) -> None:
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
)
async def test_what_is_not_imitated_is_refused_in_graphs_words(sim: Sim, method: str, path: str, status: int) -> None:
    answer = await sim.graph(method, path)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "message", "innerError"}


def _operations(call: dict[str, Json]) -> list[tuple[Json, Json]]:
    operations = call["operations"]
    assert isinstance(operations, list)
    return [(each["status"], each["subcode"]) for each in operations if isinstance(each, dict)]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1.0/communications/calls/{}/keepAlive", 200),
        ("GET", "/v1.0/communications/calls/{}", 200),
        ("POST", "/v1.0/communications/calls/{}/recordResponse", 200),
        ("POST", "/beta/communications/calls/{}/record", 202),
        ("DELETE", "/v1.0/communications/calls/{}", 204),
        ("POST", "/v1.0/communications/calls/unknown/keepAlive", 404),
        ("PUT", "/v1.0/communications/calls/{}/keepAlive", 405),
        ("POST", "/v2.0/communications/calls/{}/keepAlive", 404),
    ],
)
async def test_each_answer_has_graphs_request_id_and_is_no_page(sim: Sim, method: str, path: str, status: int) -> None:
    call_id = await sim.create(state="established")
    answer = await sim.graph(method, path.format(call_id), {} if "record" in path else None)
    assert answer.status_code == status
    assert len(answer.headers["request-id"]) == 36
    assert "html" not in answer.headers.get("content-type", "")
