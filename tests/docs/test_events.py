"""docs/events.md agrees with the events, and its code verifies them."""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Any

import pytest

from shared.domain.deliveries import EVENT_TYPES
from tests.docs.documents import blocks, code, read, rows
from tools.docs_tables import ROOT
from tools.event_examples import event_examples

PAGE = ROOT / "docs" / "events.md"
KEY = bytes(range(32))
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
BODY = event_examples()["call-ended"]


def headers_of(age: int = 0) -> dict[str, str]:
    """The headers of an event that was signed so many seconds ago. The code shown accepts five minutes."""
    return {"webhook-id": "03-1772438520000000-00000005", "webhook-timestamp": str(int(time.time()) - age)}


def signature(headers: dict[str, str], body: bytes, key: bytes = KEY) -> str:
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body.decode()}".encode()
    return f"v1,{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()}"


@pytest.fixture
def is_genuine() -> Callable[[str, dict[str, str], bytes], bool]:
    """The function that the page shows."""
    [shown] = [block for block in blocks(PAGE) if block.language == "python"]
    names: dict[str, Any] = {}
    exec(shown.body, names)
    found: Callable[[str, dict[str, str], bytes], bool] = names["is_genuine"]
    return found


def test_the_page_lists_each_type_of_event_and_no_other() -> None:
    first = read("docs/events.md").partition("## ")[0]
    assert [code(row[0])[0] for row in rows(first)] == [*EVENT_TYPES]


def test_the_code_shown_accepts_a_signed_event(is_genuine: Callable[[str, dict[str, str], bytes], bool]) -> None:
    headers = headers_of()
    signed = headers | {"webhook-signature": signature(headers, BODY)}
    while_rotating = headers | {"webhook-signature": f"v1,bm90IHRoaXM= v1a,bm9y {signature(headers, BODY)}"}
    assert is_genuine(SECRET, signed, BODY)
    assert is_genuine(SECRET, while_rotating, BODY)


def test_the_code_shown_refuses_any_other(is_genuine: Callable[[str, dict[str, str], bytes], bool]) -> None:
    headers = headers_of()
    signed = headers | {"webhook-signature": signature(headers, BODY)}
    old = headers_of(age=301)
    assert not is_genuine(SECRET, signed, BODY.replace(b"5010", b"5011"))
    assert not is_genuine(SECRET, signed | {"webhook-id": "another"}, BODY)
    assert not is_genuine(SECRET, old | {"webhook-signature": signature(old, BODY)}, BODY)
    assert not is_genuine(SECRET, headers | {"webhook-signature": signature(headers, BODY, bytes(32))}, BODY)
    assert not is_genuine(SECRET, headers | {"webhook-signature": ""}, BODY)
