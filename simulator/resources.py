"""Calls and operations as Graph's answers show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.notifications import OPERATION_TYPES, result_info
from simulator.records import Kind, Status

if TYPE_CHECKING:
    from simulator.records import Call, Operation
    from simulator.wire import Json, JsonObject

# The members that Graph's examples show as null (Graph: application-post-calls, call-get pages).
_EMPTY = ("subject", "resultInfo", "chatInfo", "meetingInfo", "mediaState", "transcription", "toneInfo")


def call_resource(call: Call) -> dict[str, Json]:
    """Graph's `call`: what the client sent, and what the service knows."""
    nothing: dict[str, Json] = dict.fromkeys(_EMPTY)
    return {
        "@odata.type": "#microsoft.graph.call",
        **nothing,
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
    """Graph's `recordOperation` and its kin, as the answer to the action and to GET show it."""
    shown: dict[str, Json] = {
        "@odata.type": OPERATION_TYPES[operation.kind],
        "id": operation.id,
        "status": operation.status,
        "clientContext": operation.client_context,
    }
    if operation.kind is Kind.CANCEL:
        return shown
    outcome = operation.outcome
    shown["resultInfo"] = result_info(outcome.code, outcome.subcode, outcome.message) if outcome else None
    if operation.records:
        ready = operation.status is Status.COMPLETED and operation.recording is not None
        shown["recordingLocation"] = operation.recording.location if ready and operation.recording else None
        if ready and operation.recording:
            shown["recordingAccessToken"] = operation.recording.access_token
    return shown


def _bot(call: Call) -> JsonObject:
    bot = {"@odata.type": "#microsoft.graph.identity", "id": call.app_id, "displayName": "Calling Bot"}
    return {
        "@odata.type": "#microsoft.graph.participantInfo",
        "identity": {"@odata.type": "#microsoft.graph.identitySet", "application": bot},
        "countryCode": None,
        "endpointType": None,
        "region": None,
        "languageId": None,
    }
