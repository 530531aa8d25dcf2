"""Signatures, verified by the stock libraries of Standard Webhooks for Python and Node."""

import base64
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from local.stack.azurite import find_node
from local.stack.stack import ROOT
from shared.domain.deliveries import delivery_id
from shared.relay.signing import webhook_headers

PACKAGE = ROOT / "node_modules" / "standardwebhooks"
PROGRAM = Path(__file__).with_name("verify.js")
SECRET = SecretStr(f"whsec_{base64.b64encode(bytes(range(200, 232))).decode()}")
ID = delivery_id(7, 1_780_000_000_000_000, "0123abcd")

type Delivery = tuple[bytes, Mapping[str, str]]
type Verify = Callable[[Sequence[Delivery], SecretStr], list[bool]]


def verify_in_python(deliveries: Sequence[Delivery], secret: SecretStr) -> list[bool]:
    """Return for each delivery if the library accepts it."""
    verifier, results = Webhook(secret.get_secret_value()), []
    for body, headers in deliveries:
        try:
            verifier.verify(body, dict(headers), json_parse=False)
        except WebhookVerificationError:
            results.append(False)
        else:
            results.append(True)
    return results


def verify_in_node(deliveries: Sequence[Delivery], secret: SecretStr) -> list[bool]:
    """Return for each delivery if the library accepts it."""
    asked = {
        "package": str(PACKAGE),
        "secret": secret.get_secret_value(),
        "deliveries": [
            {"body": base64.b64encode(body).decode(), "headers": dict(headers)} for body, headers in deliveries
        ],
    }
    run = subprocess.run(
        [find_node(), str(PROGRAM)], input=json.dumps(asked), capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 0, run.stderr
    return [result is True for result in json.loads(run.stdout)]


@pytest.mark.parametrize("verify", [verify_in_python, verify_in_node], ids=["Python", "Node"])
def test_a_stock_library_accepts_our_signature_and_nothing_else(verify: Verify) -> None:
    now = datetime.now(UTC)
    bodies = (b'{"value": []}', b"", b"\x00.\r\n", '\ufeff{"name": "Zoë"}'.encode(), b"x" * 300_000)
    genuine = [(body, webhook_headers(ID, now, body, SECRET)) for body in bodies]
    body, headers = genuine[0]
    old = webhook_headers(ID, now - timedelta(minutes=6), body, SECRET)
    forged = [
        (b'{"value": [1]}', headers),
        (body, {**headers, "webhook-id": "other"}),
        (body, {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}),
        (body, {**headers, "webhook-signature": genuine[1][1]["webhook-signature"]}),
        (body, webhook_headers(ID, now, body, None)),
        (body, old),
    ]

    assert verify(genuine, SECRET) == [True] * len(genuine)
    assert verify(forged, SECRET) == [False] * len(forged)
    other = SecretStr(f"whsec_{base64.b64encode(bytes(24)).decode()}")
    assert verify(genuine, other) == [False] * len(genuine)


@given(st.text(max_size=200), st.binary(min_size=24, max_size=64))
def test_the_library_for_python_accepts_every_text_and_every_secret(text: str, key: bytes) -> None:
    """The libraries read a body as UTF-8. So does Call Keeper, which accepts no other body from Graph."""
    body = text.encode()
    secret = SecretStr(f"whsec_{base64.b64encode(key).decode()}")

    assert verify_in_python([(body, webhook_headers(ID, datetime.now(UTC), body, secret))], secret) == [True]


def test_without_a_secret_id_and_time_are_sent_all_the_same() -> None:
    at = datetime(2026, 1, 1, 12, 0, 0, 999_999, tzinfo=UTC)

    assert webhook_headers(ID, at, b"{}", None) == {
        "webhook-id": ID,
        "webhook-timestamp": str(int(datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp())),
    }
    assert "." not in ID


def test_the_headers_do_not_have_the_secret() -> None:
    assert SECRET.get_secret_value() not in str(webhook_headers(ID, datetime.now(UTC), b"{}", SECRET))
