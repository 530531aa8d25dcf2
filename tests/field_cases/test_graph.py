"""Field cases about requests to Graph. Each test has the name of its case in tests/data/field-cases."""

import json
import re
from pathlib import Path
from typing import Any

from tests.functions.conftest import (  # noqa: F401 (fixtures)
    app,
    functions,
    one_simulator,
    served,
    simulator,
    simulator_addresses,
    whole_app,
)
from tests.functions.harness import KEY, App

CASES = Path(__file__).parents[1] / "data" / "field-cases"


def case(name: str) -> dict[str, Any]:
    """The one case of a file."""
    (found,) = json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))["cases"]
    return dict(found)


async def test_13_record_404_young_call(app: App) -> None:  # noqa: F811
    given = case("13-record-404-young-call")
    call_id = await app.simulator.call(app.tenant, id=given["call"], quiet=True)
    await app.simulator.fault(operation="recordResponse", callId=call_id, status=404, subcode="8522", count=1)
    await app.register(call_id)
    answer = await app.http.post(f"/api/calls/{call_id}/record", json={}, headers=KEY)
    problem, expect = answer.json(), given["expect"]
    assert (answer.status_code, problem["graphStatus"]) == (expect["http"], expect["graphStatus"])
    assert not re.search(expect["type"]["nomatch"], problem["type"])
    assert "ask again" in problem["detail"]
    assert (await app.asked("GET", f"calls/{call_id}"))["status"] == "active"
    await app.ask("POST", f"calls/{call_id}/record", {}, expect=202)


async def test_16_graph_error_in_json_text(app: App) -> None:  # noqa: F811
    given = case("16-graph-error-in-json-text")
    message = re.search(r'message: (".*")\}$', given["steps"][0])
    assert message is not None
    call_id = await app.simulator.call(app.tenant, id=given["call"], quiet=True)
    await app.register(call_id)
    told = json.loads(message[1])
    await app.simulator.fault(operation="recordResponse", callId=call_id, status=403, count=1, message=told)
    problem: Any = await app.asked("POST", f"calls/{call_id}/record", {}, expect=502)
    expect = given["expect"]
    assert problem["graphSubcode"] == expect["graphSubcode"]
    assert re.search(expect["detail"]["match"], problem["detail"])
    assert not re.search(expect["detail"]["nomatch"], problem["detail"])
