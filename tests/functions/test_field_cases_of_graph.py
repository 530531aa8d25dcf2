"""Field cases about requests to Graph. Each test has the name of its case in tests/data/field-cases."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from tests.functions.harness import KEY, App

CASES = Path(__file__).parents[1] / "data" / "field-cases"


def case(name: str) -> dict[str, Any]:
    """The one case of a file."""
    (found,) = json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))["cases"]
    return dict(found)


async def test_13_record_404_young_call(app: App) -> None:
    given = case("13-record-404-young-call")
    call_id = await app.simulator.call(app.tenant, id=given["call"], quiet=True)
    await app.simulator.fault(operation="recordResponse", callId=call_id, status=404, subcode="8522", count=1)
    await app.register(call_id)
    answer = await app.http.post(f"/api/calls/{call_id}/record", json={}, headers=KEY)
    problem, expect = answer.json(), given["expect"]
    assert (answer.status_code, problem["graphStatus"]) == (expect["http"], expect["graphStatus"])
    assert not re.search(expect["type"]["nomatch"], problem["type"])
    assert "Repeat the request" in problem["detail"]
    assert (await app.asked("GET", f"calls/{call_id}"))["status"] == "active"
    await app.ask("POST", f"calls/{call_id}/record", {}, expect=202)


@dataclass
class LosingProxy:
    """A proxy before Table Storage. It passes on the claim of a key and loses the answer, in one of three ways."""

    azurite: str
    way: str
    times: int
    lost: int = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        url = URL(self.azurite + request.raw_path, encoded=True)  # as it is signed
        async with aiohttp.ClientSession(skip_auto_headers=("Content-Type",)) as session:
            asked = session.request(request.method, url, data=body or None, headers=request.headers)
            async with asked as answer:
                content, headers = await answer.read(), {"Content-Type": answer.headers.get("Content-Type", "")}
                status = answer.status
        if self.lost < self.times and b"idempotency|" in body:
            self.lost += 1
            if self.way == "cut":
                assert request.transport is not None
                request.transport.abort()
            return web.Response(status=int(self.way) if self.way != "cut" else 500)
        return web.Response(body=content, status=status, headers=headers)


@asynccontextmanager
async def losing(storage: str, way: str, times: int) -> AsyncIterator[tuple[str, LosingProxy]]:
    """The connection string of storage behind the proxy, and the proxy."""
    address = re.search(r"TableEndpoint=(http://127\.0\.0\.1:\d+)", storage)
    assert address is not None
    proxy = LosingProxy(address[1], way, times)
    server = web.Application(client_max_size=2**24)
    server.router.add_route("*", "/{path:.*}", proxy.handle)
    runner = web.AppRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    (host, port), *_ = runner.addresses
    try:
        yield storage.replace(address[1], f"http://{host}:{port}"), proxy
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("way", "times"),
    [
        pytest.param("cut", 1, id="connection cut"),
        pytest.param("500", 1, id="500"),
        pytest.param("503", 2, id="503 twice"),
    ],
)
@pytest.mark.parametrize(
    ("verb", "operation"), [("record", "recordResponse"), ("hangup", "delete")], ids=["record", "hangup"]
)
async def test_14_idempotency_claim_answer_lost(app: App, way: str, times: int, verb: str, operation: str) -> None:
    given = case("14-idempotency-claim-answer-lost")
    call_id = await app.register()
    path, headers = f"/api/calls/{call_id}/{verb}", KEY | {"Idempotency-Key": '"k-1"'}
    async with losing(app.storage, way, times) as (storage, proxy), app.configured(CALLS_STORAGE=storage) as troubled:
        first = await troubled.http.post(path, headers=headers)
        assert proxy.lost == times
        assert first.status_code in {202, 503}
        for wait in (1, 19, 40, 270):
            troubled.clock.ahead += timedelta(seconds=wait)
            again = await troubled.http.post(path, headers=headers)
            assert again.status_code == given["expect"]["again"], again.text
    requests: Any = await app.simulator.control("GET", f"/requests?operation={operation}&callId={call_id}")
    assert len(requests["value"]) == given["expect"]["recordings at Graph"]


async def test_16_graph_error_in_json_text(app: App) -> None:
    given = case("16-graph-error-in-json-text")
    message = re.search(r'message: (".*")\}$', given["steps"][0])
    assert message is not None
    call_id = await app.simulator.call(app.tenant, id=given["call"], quiet=True)
    await app.register(call_id)
    error = json.loads(message[1])
    await app.simulator.fault(operation="recordResponse", callId=call_id, status=403, count=1, message=error)
    problem: Any = await app.asked("POST", f"calls/{call_id}/record", {}, expect=502)
    expect = given["expect"]
    assert problem["graphSubcode"] == expect["graphSubcode"]
    assert re.search(expect["detail"]["match"], problem["detail"])
    assert not re.search(expect["detail"]["nomatch"], problem["detail"])
