"""The simulator's JSON agrees with Graph's published types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from simulator import graph_models
from simulator.faults import OperationName
from simulator.graph_models import CreateCall, GraphModel
from simulator.records import Tone
from tests.simulator.csdl import EXTRAS, notification_differences, published

if TYPE_CHECKING:
    from pydantic import BaseModel

    from simulator.wire import Json
    from tests.simulator.conftest import Sim

CALL_TYPES: dict[str, type[GraphModel]] = {
    "call": CreateCall,
    "identity": graph_models.Identity,
    "identitySet": graph_models.IdentitySet,
    "participantInfo": graph_models.Participant,
    "invitationParticipantInfo": graph_models.InvitedParticipant,
    "mediaInfo": graph_models.MediaInfo,
    "mediaPrompt": graph_models.Prompt,
    "serviceHostedMediaConfig": graph_models.ServiceHosted,
    "appHostedMediaConfig": graph_models.AppHosted,
    "chatInfo": graph_models.ChatInfo,
    "organizerMeetingInfo": graph_models.OrganizerMeeting,
    "tokenMeetingInfo": graph_models.TokenMeeting,
    "joinMeetingIdMeetingInfo": graph_models.JoinIdMeeting,
    "callOptions": graph_models.CallOptions,
}
ACTIONS: dict[str, type[GraphModel]] = {
    "answer": graph_models.Answer,
    "reject": graph_models.Reject,
    "subscribeToTone": graph_models.SubscribeToTone,
    "recordResponse": graph_models.RecordResponse,
    "playPrompt": graph_models.PlayPrompt,
    "cancelMediaProcessing": graph_models.CancelMediaProcessing,
}


def names(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()} - {"@odata.type"}


@pytest.mark.parametrize("name", CALL_TYPES)
def test_an_accepted_type_has_only_published_or_explained_members(name: str) -> None:
    unknown = names(CALL_TYPES[name]) - set(published().members(name))
    assert {member for member in unknown if f"{name}.{member}" not in EXTRAS} == set()


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_accepts_exactly_the_published_parameters(name: str) -> None:
    assert names(ACTIONS[name]) == set(published().actions[name].parameters)


def test_tones_are_those_that_are_published() -> None:
    assert list(Tone) == published().enums["tone"]


def test_every_model_of_a_body_is_compared_with_a_published_type() -> None:
    checked = {*CALL_TYPES.values(), *ACTIONS.values(), graph_models.Record, GraphModel}
    models = {each for each in vars(graph_models).values() if isinstance(each, type) and issubclass(each, GraphModel)}
    assert models == checked


def test_the_record_action_of_2018_accepts_what_its_page_lists_and_its_example_sends() -> None:
    beyond = {"streamWhileRecording", "recordingFormat"}
    assert names(graph_models.Record) == set(published().actions["recordResponse"].parameters) | beyond


def test_every_action_except_the_record_action_of_2018_is_published() -> None:
    others = {"create", "get", "delete", "getOperation", "download", "record"}
    graph = {name for name in OperationName if name in published().actions or name in others}
    assert graph | {
        "token",
        "managedIdentity",
        "discovery",
        "keys",
        "notificationDiscovery",
        "notificationKeys",
    } == set(OperationName)


def test_no_explained_extra_is_published() -> None:
    known = {name: published().members(name) for name in published().types}
    assert [extra for extra in EXTRAS if extra.split(".")[1] in known[extra.split(".")[0]]] == []


@pytest.mark.parametrize("shape", ["documented", "observed"])
async def test_everything_that_is_sent_agrees_with_the_published_types(sim: Sim, shape: str) -> None:
    """Run three calls through every state, every kind of operation and every end."""
    await sim.control("PUT", "/delivery", {"shape": shape})
    calls = [await _create(sim)]
    call_id = calls[0]["id"]
    await sim.advance(2)
    path = f"/v1.0/communications/calls/{call_id}"
    operations = [await _post(sim, f"{path}/{action}", body) for action, body in _ACTIONS]
    await sim.advance(10)
    operations += [
        await _post(sim, f"{path}/recordResponse", {}),
        await _post(sim, f"{path}/cancelMediaProcessing", {}),
    ]
    calls.append((await sim.graph("GET", path)).json())
    operations.append(await _post(sim, f"{path}/subscribeToTone", {"clientContext": "three"}))
    await sim.control("POST", f"/calls/{call_id}/tone", {"tone": "pound"})
    await sim.control("POST", f"/calls/{call_id}/participantJoining", {}, expect=202)
    await sim.graph("DELETE", path)
    incoming = await sim.create(state="incoming", details=_INCOMING)
    await sim.graph("POST", f"/v1.0/communications/calls/{incoming}/answer", _ANSWER)
    rejected = await sim.create(state="incoming")
    await sim.graph("POST", f"/v1.0/communications/calls/{rejected}/reject", {"reason": "busy"})
    await sim.advance((45 + 1) * 60)  # past the end of the lease

    assert [each for call in calls for each in published().differences(call, "call")] == []
    assert [each for operation in operations for each in published().differences(operation, "commsOperation")] == []
    seen = {body["@odata.type"] for body in sim.bot.bodies}
    assert seen == {"#microsoft.graph.commsNotifications"}
    differences = [each for body in sim.bot.bodies for each in notification_differences(body)]
    # The delete page has the two codes of an end as text, against its own type. The documented shape follows the page.
    as_text = {"resourceData.resultInfo.code", "resourceData.resultInfo.subcode"} if shape == "documented" else set()
    assert {each.split(":")[0] for each in differences} == as_text
    states = {"incoming", "establishing", "established", "terminating", "terminated"}
    assert set(sim.bot.states) == {None, *states}


async def test_the_comparison_finds_differences() -> None:
    call: dict[str, Json] = {"@odata.type": "#microsoft.graph.call", "status": "x", "state": "dead", "subject": 1}
    found = [each.partition(":")[0] for each in published().differences(call, "call")]
    assert found == ["", ".state", ".subject"]
    assert list(published().differences({"@odata.type": "#microsoft.graph.call"}, "commsOperation")) != []


_PROMPT: Json = {"@odata.type": "#microsoft.graph.mediaPrompt", "mediaInfo": {"uri": "https://cdn.example/beep.wav"}}
_ACTIONS: list[tuple[str, dict[str, Json]]] = [
    ("recordResponse", {"clientContext": "one", "maxRecordDurationInSeconds": 2}),
    ("playPrompt", {"clientContext": "two", "prompts": [_PROMPT]}),
]
_MEDIA: Json = {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"}
_ANSWER: dict[str, Json] = {"acceptedModalities": ["audio"], "mediaConfig": _MEDIA}
_SOURCE: Json = {"@odata.type": "#microsoft.graph.participantInfo", "identity": {"user": {"id": "a user"}}}
_INCOMING: Json = {"source": _SOURCE, "requestedModalities": ["audio"]}


async def _create(sim: Sim) -> dict[str, Json]:
    body: dict[str, Json] = {
        "@odata.type": "#microsoft.graph.call",
        "callbackUri": "http://127.0.0.1:9000/api/notifications",
        "requestedModalities": ["audio"],
        "mediaConfig": _MEDIA,
        "chatInfo": {"@odata.type": "#microsoft.graph.chatInfo", "threadId": "19:meeting@thread.v2", "messageId": "0"},
        "meetingInfo": {
            "@odata.type": "#microsoft.graph.organizerMeetingInfo",
            "organizer": {"user": {"id": "an organizer", "displayName": "Bob"}},
            "allowConversationWithoutHost": True,
        },
    }
    return await _post(sim, "/v1.0/communications/calls", body)


async def _post(sim: Sim, path: str, body: dict[str, Json]) -> dict[str, Json]:
    response = await sim.graph("POST", path, body)
    assert response.is_success, response.text
    found: dict[str, Json] = response.json()
    return found
