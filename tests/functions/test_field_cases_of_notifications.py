"""Cases from the field about notifications and input. The files say what was sent, and what must be right."""

import json
from functools import reduce
from typing import Any

import pytest
from pydantic import JsonValue

from local.stack.stack import ROOT
from tests.functions.harness import KEY, App

CASES = ROOT / "tests" / "data" / "field-cases"
NAMES = (
    "10-callstate-of-2018",
    "11-told-while-terminating",
    "18-participant-left-is-no-end",
    "20-operation-text-codes",
    "21-startedat-number-as-text",
)


@pytest.mark.parametrize("name", NAMES)
async def test_a_case_from_the_field_is_right(app: App, name: str) -> None:
    for case in json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))["cases"]:
        call_id, expected = case["call"], dict(case["expect"])
        answer = await app.http.put(f"/api/calls/{call_id}", headers=KEY, json=case["put"])
        assert answer.status_code == expected.pop("http", 201)
        for body in case.get("notifications", ()):
            signed = await app.simulator.signature(case["put"]["tenantId"])
            await app.ask("POST", "notifications", body, expect=202, headers=signed)
        if not expected:
            continue
        seen: Any = await app.asked("GET", f"calls/{call_id}")
        seen["operations"] = (await app.asked("GET", f"calls/{call_id}/operations"))["value"]
        assert {path: found(seen, path) for path in expected} == expected


def found(seen: JsonValue, path: str) -> JsonValue:
    """Return the value at a path, for example `operations.0.code`."""

    def step(value: Any, name: str) -> Any:  # noqa: ANN401 (JSON)
        return value[int(name)] if isinstance(value, list) else value[name]

    return reduce(step, path.split("."), seen)
