"""Calls and operations as JSON resources in Graph's responses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.notifications import OPERATION_TYPES, result_info
from simulator.records import OperationKind, OperationStatus

if TYPE_CHECKING:
    from simulator.records import Call, Operation
    from simulator.wire import Json, JsonObject

# Graph: application-post-calls and call-get pages, whose examples show these members as null
_NULL_MEMBERS = ("subject", "resultInfo", "chatInfo", "meetingInfo", "mediaState", "transcription", "toneInfo")


def call_resource(call: Call) -> dict[str, Json]:
    """Return Graph's `call`: the members that the client sent, and those that the service sets."""
    null_members: dict[str, Json] = dict.fromkeys(_NULL_MEMBERS)
    return {
        "@odata.type": "#microsoft.graph.call",
        **null_members,
        "targets": [],
        "source": _bot(call),
        "requestedModalities": ["audio"],
        "mediaConfig": {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"},
        **call.details,
        "id": call.id,
        "state": call.state,
        "direction": call.direction,
        "callbackUri": call.callback_uri,
        "callChainId": call.chain_id,
        "myParticipantId": call.participant_id,
        "tenantId": call.tenant_id,
        "callRoutes": [],
    }


def operation_resource(operation: Operation) -> JsonObject:
    """Return Graph's `recordOperation`, or its sibling types, as in the responses to the action and to GET."""
    resource: dict[str, Json] = {
        "@odata.type": OPERATION_TYPES[operation.kind],
        "id": operation.id,
        "status": operation.status,
        "clientContext": operation.client_context,
    }
    if operation.kind in {OperationKind.CANCEL, OperationKind.SUBSCRIBE_TO_TONE}:
        return resource
    outcome = operation.outcome
    resource["resultInfo"] = result_info(outcome.code, outcome.subcode, outcome.message) if outcome else None
    if operation.is_recording:
        recording = operation.recording if operation.status is OperationStatus.COMPLETED else None
        resource["recordingLocation"] = recording.location if recording else None
        if recording:
            resource["recordingAccessToken"] = recording.access_token
    return resource


def _bot(call: Call) -> JsonObject:
    """Return the calling bot as Graph's `participantInfo`."""
    bot = {"@odata.type": "#microsoft.graph.identity", "id": call.app_id, "displayName": "Calling Bot"}
    return {
        "@odata.type": "#microsoft.graph.participantInfo",
        "identity": {"@odata.type": "#microsoft.graph.identitySet", "application": bot},
        "countryCode": None,
        "endpointType": None,
        "region": None,
        "languageId": None,
    }
