"""Requests as Call Keeper sends them to bots."""

import base64
import hmac
import json

import httpx

from tests.examples.bots import Bot


def deliver(bot: Bot, token: str, body: bytes, message_id: str) -> int:
    """Send a late delivery to a bot. Return the status of its answer."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "webhook-id": message_id}
    return httpx.post(bot.notifications, content=body, headers=headers).status_code


def tone_body(call_id: str, tone: str) -> bytes:
    """Return the body of a notification that a key was pressed."""
    data = {"@odata.type": "#microsoft.graph.call", "state": "established", "toneInfo": {"tone": tone}}
    item = {"changeType": "updated", "resourceUrl": f"/communications/calls/{call_id}", "resourceData": data}
    return json.dumps({"value": [item]}).encode()


def signature_headers(secret: str, message_id: str, timestamp: int | str, body: bytes) -> dict[str, str]:
    """Return the headers of an event with a signature of Standard Webhooks.

    `secret` is `whsec_…`, `timestamp` is in seconds since 1970.
    """
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    signature = f"v1,{base64.b64encode(mac).decode()}"
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": signature}
