"""Cases from the field of ended calls: what the record says after a registration and Graph's notifications."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import JsonValue

from shared.api.views import call_view
from shared.domain.calls import Call, canonical_id
from shared.domain.leases import Timing
from shared.domain.lifecycle import Registration, notified, registered
from shared.domain.notifications import parse_notifications

FOLDER = Path(__file__).parents[2] / "data" / "field-cases"
NAMES = (
    "01-end-1203002",
    "02-end-join-2203-and-policy",
    "03-end-pstn-table",
    "04-end-call-automation",
    "05-end-code-alone",
    "06-success-row-explains-failure",
    "07-diagcode-under-9999",
    "08-reason-appinitiated",
    "09-reason-has-no-action",
    "17-advice-for-incoming-calls",
    "19-incoming-never-answered",
    "22-unknown-code-has-advice",
)
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def cases(name: str) -> list[dict[str, JsonValue]]:
    found: list[dict[str, JsonValue]] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["cases"]
    return found


ALL = [pytest.param(case, id=f"{name}-{number}") for name in NAMES for number, case in enumerate(cases(name), 1)]


def recorded(case: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The record as the API shows it."""
    call_id, put, bodies = canonical_id(str(case["call"])), case["put"], case["notifications"]
    assert isinstance(put, dict)
    assert isinstance(bodies, list)
    tenant = str(put["tenantId"])
    call: Call = registered(None, Registration(call_id, tenant), NOON)
    for body in bodies:
        parsed = parse_notifications(json.dumps(body).encode())
        assert parsed.faults == ()
        for notification in parsed.notifications:
            call = notified(call, notification, tenant, NOON)
    shown: dict[str, JsonValue] = call_view(call, None, Timing(), NOON).model_dump(mode="json", by_alias=True)
    return shown


def holds(found: JsonValue, wanted: JsonValue) -> bool:
    """True if a value is as a case wants it: equal, `not` equal, `in` a list, or (not) matching an expression."""
    match wanted:
        case {"not": other}:
            return found != other
        case {"in": list(others)}:
            return found in others
        case {"match": str(pattern)}:
            return re.search(pattern, str(found)) is not None
        case {"nomatch": str(pattern)}:
            return re.search(pattern, str(found)) is None
        case dict():
            raise ValueError(f"nobody knows how to compare with {wanted}")
        case _:
            return found == wanted


@pytest.mark.parametrize("case", ALL)
def test_the_record_explains_the_end(case: dict[str, JsonValue]) -> None:
    record, expect = recorded(case), case["expect"]
    assert isinstance(expect, dict)
    assert expect
    for path, wanted in expect.items():
        found: JsonValue = record
        for step in path.split("."):
            assert isinstance(found, dict)
            found = found[step]
        assert holds(found, wanted), f"{path} is {found!r}, not {wanted}"
