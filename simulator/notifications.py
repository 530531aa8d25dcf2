"""The content of notifications, in two payload shapes: as Graph's pages document it, and as it is observed."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from simulator.records import CallDirection, CallState, OperationKind, OperationStatus
from simulator.wire import Json, JsonObject, notification_id

if TYPE_CHECKING:
    from simulator.records import Call, CallEnd, Operation, Tone

OPERATION_TYPES = {
    OperationKind.RECORD_RESPONSE: "#microsoft.graph.recordOperation",
    OperationKind.RECORD: "#microsoft.graph.recordOperation",
    OperationKind.PLAY_PROMPT: "#microsoft.graph.playPromptOperation",
    OperationKind.CANCEL: "#microsoft.graph.cancelMediaProcessingOperation",
    OperationKind.SUBSCRIBE_TO_TONE: "#microsoft.graph.subscribeToToneOperation",
}
_CALL_TYPE = "#microsoft.graph.call"
_JOINING_TYPE = "#microsoft.graph.participantJoiningNotification"
_ITEM_TYPE = "#microsoft.graph.commsNotification"
_CHANGE_TYPES = {CallState.INCOMING: "created", CallState.TERMINATED: "deleted"}  # all others: updated
_REGULAR_END = 200  # Graph's own code for a regular end


class Shape(StrEnum):
    """The shape of payloads. DOCUMENTED has codes as text and only `resourceUrl`; OBSERVED is what services receive."""

    DOCUMENTED = "documented"
    OBSERVED = "observed"


def notifications_body(items: list[JsonObject]) -> JsonObject:
    """Return the body of one POST with these notifications."""
    return {"@odata.type": "#microsoft.graph.commsNotifications", "value": items}


def call_notification(call: Call, shape: Shape, *, with_media: bool = False) -> JsonObject | None:
    """Return the notification of a call's present state, or None if the shape has no such notification."""
    if shape is Shape.DOCUMENTED:
        return None if with_media else _documented(call)
    return _observed(call, with_media=with_media)


def operation_notification(call: Call, operation: Operation, shape: Shape) -> JsonObject:
    """Return the notification of an operation's present status.

    Source: Graph's call-record page, of today or, for `record`, of 2018.
    """
    if operation.kind is OperationKind.RECORD:
        return _record_of_2018(call, operation)
    path = f"/calls/{notification_id(call.id)}/operations/{notification_id(operation.id)}"
    old_path = {"resource": f"/app{path}"} if shape is Shape.OBSERVED else {}
    return {
        "@odata.type": _ITEM_TYPE,
        "changeType": "deleted",
        **old_path,
        "resourceUrl": f"/communications{path}",
        "resourceData": {
            "@odata.type": OPERATION_TYPES[operation.kind],
            "@odata.id": f"/communications{path}",
            "@odata.etag": operation.etag,
            "id": operation.id,
            "clientContext": operation.client_context,
            "status": operation.status,
            **_operation_result(operation),
        },
    }


def custom_notification(call: Call, change_type: str, suffix: str, data: Json, shape: Shape) -> JsonObject:
    """Return a notification of a call with any content. `suffix` follows the call in the URL, as `/participants`."""
    old_path = {"resource": f"/app/calls/{call.id}{suffix}"} if shape is Shape.OBSERVED else {}
    url = f"/communications/calls/{call.id}{suffix}"
    return {"@odata.type": _ITEM_TYPE, "changeType": change_type, **old_path, "resourceUrl": url, "resourceData": data}


def tone_notification(call: Call, tone: Tone, sequence_id: int, shape: Shape) -> JsonObject:
    """Return the notification of a key that the person pressed. Source: Graph's call-subscribeToTone page."""
    info: JsonObject = {"@odata.type": "#microsoft.graph.toneInfo", "sequenceId": sequence_id, "tone": tone}
    data: JsonObject = {"@odata.type": _CALL_TYPE, "state": call.state, "toneInfo": info}
    return custom_notification(call, "updated", "", data, shape)


def joining_notification(call: Call, joining: JsonObject, change_type: str, suffix: str, shape: Shape) -> JsonObject:
    """Return the notification that somebody under a recording policy joins. The bot's response decides on it.

    `joining` has members of the call in it: who joins. Sources: Graph's participantJoiningNotification page; for
    `change_type` and `suffix` what Microsoft's calling SDK understands.
    """
    data = {"@odata.type": _CALL_TYPE, "id": call.id, "tenantId": call.tenant_id, "callChainId": call.chain_id}
    notification: JsonObject = {"@odata.type": _JOINING_TYPE, "call": {**data, **joining}}
    return custom_notification(call, change_type, suffix, notification, shape)


def wants_answer(item: JsonObject) -> bool:
    """True if the bot's response to a notification must have a body."""
    data = item.get("resourceData")
    return isinstance(data, Mapping) and data.get("@odata.type") == _JOINING_TYPE


def result_info(code: int | str, subcode: int | str, message: str) -> JsonObject:
    """Return Graph's `resultInfo`."""
    return {"@odata.type": "#microsoft.graph.resultInfo", "code": code, "subcode": subcode, "message": message}


def _documented(call: Call) -> JsonObject:
    """Return a call's state in the documented shape.

    Sources: Graph's call-delete page for the end, call-answer for incoming calls, else application-post-calls.
    """
    ending = {CallState.TERMINATING, CallState.TERMINATED}
    incoming = call.direction is CallDirection.INCOMING and call.state not in ending
    url = f"/communications/calls/{notification_id(call.id) if incoming else call.id}"
    item: dict[str, Json] = {
        "@odata.type": _ITEM_TYPE,
        "changeType": _CHANGE_TYPES.get(call.state, "updated"),
        "resourceUrl": url,
    }
    data: dict[str, Json] = {"@odata.type": _CALL_TYPE, "state": call.state}
    if incoming:
        data |= {"@odata.id": url, "@odata.etag": 'W/"5445"'} | _invitation(call)
    elif call.state in {CallState.ESTABLISHING, CallState.ESTABLISHED}:
        item["callbackUri"] = call.callback_uri
        data |= _meeting(call) | {"id": call.id}
        if call.state is CallState.ESTABLISHED:
            data["direction"] = call.direction
    if call.end is not None:
        data["resultInfo"] = result_info(str(call.end.code), str(call.end.subcode), call.end.message)
    return item | {"resourceData": data}


def _observed(call: Call, *, with_media: bool) -> JsonObject:
    """Return a call's state as in captured payloads: both resource fields, numbers, a DiagCode, no id in the data."""
    data: dict[str, Json] = {"@odata.type": _CALL_TYPE, "state": call.state} | _invitation(call)
    if call.state is CallState.ESTABLISHED:
        data["direction"] = call.direction
    if with_media:
        data["mediaState"] = {"@odata.type": "#microsoft.graph.callMediaState", "audio": "active"}
    if with_media or call.state is CallState.ESTABLISHING:
        data |= _meeting(call)
    if with_media or call.end is not None:
        data["meetingCapability"] = {"@odata.type": "#microsoft.graph.meetingCapability"}
    if call.end is not None:
        data |= {"resultInfo": _observed_result(call.end), "coOrganizers": []}
    data["callChainId"] = call.chain_id
    return custom_notification(call, _CHANGE_TYPES.get(call.state, "updated"), "", data, Shape.OBSERVED)


def _invitation(call: Call) -> dict[str, Json]:
    """Return the caller and the called party. Only an incoming call that is not answered yet has these members."""
    if call.state is not CallState.INCOMING:
        return {}
    named = ("source", "targets", "requestedModalities", "chatInfo", "meetingInfo")
    return {"direction": call.direction} | {name: call.details[name] for name in named if name in call.details}


def _meeting(call: Call) -> dict[str, Json]:
    return {name: call.details[name] for name in ("chatInfo", "meetingInfo") if name in call.details}


def _observed_result(end: CallEnd) -> JsonObject:
    diagnostic = 0 if end.code == _REGULAR_END else end.code
    return result_info(end.code, end.subcode, f"{end.message} DiagCode: {diagnostic}#{end.subcode}.@")


def _operation_result(operation: Operation) -> JsonObject:
    outcome = operation.outcome
    if outcome is None:
        return {}
    result = result_info(outcome.code, outcome.subcode, outcome.message)
    if not operation.is_recording:
        return {"resultInfo": result}
    location, token = _file(operation)
    members: dict[str, Json] = {
        "resultInfo": result,
        "recordingLocation": location,
        "recordingAccessToken": token,
    }
    return members if location else members | {"completionReason": outcome.completion_reason}


def _record_of_2018(call: Call, operation: Operation) -> JsonObject:
    """Return a recording as on the page of 2018: only `resource`, no type or id, and the older names of the file."""
    resource = f"/app/calls/{notification_id(call.id)}/operations/{notification_id(operation.id)}"
    location, token = _file(operation)
    data: dict[str, Json] = {
        "@odata.type": OPERATION_TYPES[operation.kind],
        "@odata.id": resource,
        "@odata.etag": operation.etag,
        "clientContext": operation.client_context,
        "status": operation.status,
        "recordResourceLocation": location,
        "recordResourceAccessToken": token,
    }
    if operation.outcome is not None:
        data["completionReason"] = operation.outcome.completion_reason
    return {
        "changeType": "deleted" if operation.is_finished else "updated",
        "resource": resource,
        "resourceData": data,
    }


def _file(operation: Operation) -> tuple[str, str]:
    """Return the URL and the token of a recording's file, both empty if the recording failed."""
    recording = operation.recording
    if recording is None or operation.status is OperationStatus.FAILED:
        return "", ""
    return recording.location, recording.access_token
