"""The notifications of one call, as Graph sends them: three, and the app writes one transaction for each."""

import json
from collections.abc import Iterator

_STATES = ("establishing", "established", "terminated")
NOTIFICATIONS_PER_CALL = len(_STATES)


def bodies(call_id: str) -> Iterator[bytes]:
    """Return the bodies of a call's notifications, in order."""
    return (json.dumps({"value": [_notification(call_id, state)]}).encode() for state in _STATES)


def _notification(call_id: str, state: str) -> dict[str, object]:
    data: dict[str, object] = {"@odata.type": "#microsoft.graph.call", "state": state, "direction": "incoming"}
    if state == "terminated":
        data["resultInfo"] = {"code": 200, "subcode": 5010, "message": "The conversation has ended. DiagCode: 0#5010.@"}
    return {
        "@odata.type": "#microsoft.graph.commsNotification",
        "changeType": "deleted" if state == "terminated" else "updated",
        "resourceUrl": f"/communications/calls/{call_id}",
        "resourceData": data,
    }
