"""What a notification says: the documented shape of Graph's pages, and the shape that is observed."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from simulator.records import Direction, Kind, Operation, State, Status
from simulator.wire import Json, JsonObject, notification_id

if TYPE_CHECKING:
    from simulator.records import Call, End

OPERATION_TYPES = {
    Kind.RECORD_RESPONSE: "#microsoft.graph.recordOperation",
    Kind.RECORD: "#microsoft.graph.recordOperation",
    Kind.PLAY_PROMPT: "#microsoft.graph.playPromptOperation",
    Kind.CANCEL: "#microsoft.graph.cancelMediaProcessingOperation",
}
_CALL_TYPE = "#microsoft.graph.call"
_ITEM_TYPE = "#microsoft.graph.commsNotification"
_CHANGES = {State.INCOMING: "created", State.TERMINATED: "deleted"}


class Shape(StrEnum):
    """The documented one has codes as text and only `resourceUrl`; the observed one is what services receive."""

    DOCUMENTED = "documented"
    OBSERVED = "observed"


def body(items: list[JsonObject]) -> JsonObject:
    """A body with these notifications."""
    return {"@odata.type": "#microsoft.graph.commsNotifications", "value": items}


def of_call(call: Call, shape: Shape, *, with_media: bool = False) -> JsonObject | None:
    """The notification of a call's present state, or None where this shape knows of none."""
    if shape is Shape.DOCUMENTED:
        return None if with_media else _documented(call)
    return _observed(call, with_media=with_media)


def of_operation(call: Call, operation: Operation, shape: Shape) -> JsonObject:
    """The notification of an operation's present state (Graph: call-record page, today's or that of 2018)."""
    if operation.kind is Kind.RECORD:
        return _old_recording(call, operation)
    path = f"/calls/{notification_id(call.id)}/operations/{notification_id(operation.id)}"
    legacy = {"resource": f"/app{path}"} if shape is Shape.OBSERVED else {}
    return {
        "@odata.type": _ITEM_TYPE,
        "changeType": "deleted",
        **legacy,
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


def custom(call: Call, change: str, suffix: str, data: Json, shape: Shape) -> JsonObject:
    """Any other notification of a call: `suffix` is what follows the call in the URL, such as `/participants`."""
    legacy = {"resource": f"/app/calls/{call.id}{suffix}"} if shape is Shape.OBSERVED else {}
    url = f"/communications/calls/{call.id}{suffix}"
    return {"@odata.type": _ITEM_TYPE, "changeType": change, **legacy, "resourceUrl": url, "resourceData": data}


def _documented(call: Call) -> JsonObject:
    """As the pages have it: call-delete for the end, call-answer for incoming calls, application-post-calls."""
    incoming = call.direction is Direction.INCOMING and call.state not in {State.TERMINATING, State.TERMINATED}
    url = f"/communications/calls/{notification_id(call.id) if incoming else call.id}"
    established = call.state in {State.ESTABLISHING, State.ESTABLISHED}
    item: dict[str, Json] = {
        "@odata.type": _ITEM_TYPE,
        "changeType": _CHANGES.get(call.state, "updated"),
        "resourceUrl": url,
    }
    data: dict[str, Json] = {"@odata.type": _CALL_TYPE, "state": call.state}
    if incoming:
        data |= {"@odata.id": url, "@odata.etag": 'W/"5445"'} | _invitation(call)
    elif established:
        item["callbackUri"] = call.callback_uri
        data |= _meeting(call) | {"id": call.id}
        if call.state is State.ESTABLISHED:
            data["direction"] = call.direction
    if call.end is not None:
        data["resultInfo"] = result_info(str(call.end.code), str(call.end.subcode), call.end.message)
    return item | {"resourceData": data}


def _observed(call: Call, *, with_media: bool) -> JsonObject:
    """As captured payloads have it: both resource fields, numbers, a DiagCode, and no id in `resourceData`."""
    data: dict[str, Json] = {"@odata.type": _CALL_TYPE, "state": call.state} | _invitation(call)
    if call.state is State.ESTABLISHED:
        data["direction"] = call.direction
    if with_media:
        data["mediaState"] = {"@odata.type": "#microsoft.graph.callMediaState", "audio": "active"}
    if with_media or call.state is State.ESTABLISHING:
        data |= _meeting(call)
    if with_media or call.end is not None:
        data["meetingCapability"] = {"@odata.type": "#microsoft.graph.meetingCapability"}
    if call.end is not None:
        data |= {"resultInfo": _observed_result(call.end), "coOrganizers": []}
    data["callChainId"] = call.chain_id
    return custom(call, _CHANGES.get(call.state, "updated"), "", data, Shape.OBSERVED)


def _invitation(call: Call) -> dict[str, Json]:
    """Who calls whom: only an incoming call that waits for its answer says so."""
    if call.state is not State.INCOMING:
        return {}
    named = ("source", "targets", "requestedModalities", "chatInfo", "meetingInfo")
    return {"direction": call.direction} | {name: call.details[name] for name in named if name in call.details}


def _meeting(call: Call) -> dict[str, Json]:
    return {name: call.details[name] for name in ("chatInfo", "meetingInfo") if name in call.details}


def _observed_result(end: End) -> JsonObject:
    first = 0 if end.code == 200 else end.code  # noqa: PLR2004 Graph's own code for a regular end
    return result_info(end.code, end.subcode, f"{end.message} DiagCode: {first}#{end.subcode}.@")


def result_info(code: int | str, subcode: int | str, message: str) -> JsonObject:
    """Graph's `resultInfo`."""
    return {"@odata.type": "#microsoft.graph.resultInfo", "code": code, "subcode": subcode, "message": message}


def _operation_result(operation: Operation) -> JsonObject:
    outcome = operation.outcome
    if outcome is None:
        return {}
    result = result_info(outcome.code, outcome.subcode, outcome.message)
    if not operation.records:
        return {"resultInfo": result}
    if operation.status is Status.FAILED or operation.recording is None:
        nothing = {"recordingLocation": "", "recordingAccessToken": ""}
        return {"resultInfo": result, **nothing, "completionReason": outcome.completion_reason}
    return {
        "resultInfo": result,
        "recordingLocation": operation.recording.location,
        "recordingAccessToken": operation.recording.access_token,
    }


def _old_recording(call: Call, operation: Operation) -> JsonObject:
    """The page of 2018: `resource`, no types on the envelope's members, and the older names of the file."""
    resource = f"/app/calls/{notification_id(call.id)}/operations/{notification_id(operation.id)}"
    failed = operation.status is Status.FAILED or operation.recording is None
    location, token = ("", "") if failed or operation.recording is None else _place(operation)
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
        "changeType": "deleted" if operation.finished else "updated",
        "resource": resource,
        "resourceData": data,
    }


def _place(operation: Operation) -> tuple[str, str]:
    recording = operation.recording
    return (recording.location, recording.access_token) if recording else ("", "")
