"""The headers of Standard Webhooks: the id and the time of a delivery, and its signature (`v1`, HMAC-SHA256)."""

import base64
import hashlib
import hmac
from datetime import datetime

from pydantic import SecretStr

from shared.config.relay_targets import secret_key


def webhook_headers(delivery_id: str, at: datetime, body: bytes, secret: SecretStr | None) -> dict[str, str]:
    """Return the headers of an attempt.

    Parameters
    ----------
    delivery_id
        The same for all attempts of a delivery. It has no dot: dots separate what is signed.
    at
        The time of the attempt. Receivers refuse a signature that is older than a few minutes.
    body
        The exact bytes that are sent.
    secret
        `whsec_…` of the target. None: there is no signature.
    """
    timestamp = str(int(at.timestamp()))
    headers = {"webhook-id": delivery_id, "webhook-timestamp": timestamp}
    if secret is not None:
        signed = b".".join((delivery_id.encode(), timestamp.encode(), body))
        signature = base64.b64encode(hmac.digest(secret_key(secret), signed, hashlib.sha256))
        headers["webhook-signature"] = f"v1,{signature.decode()}"
    return headers
