"""Management routes refuse unexpected input by name, before anything is done."""

import json
from typing import Any

import httpx
import pytest

from functions.routing import Route
from shared.services import Services
from tests.functions.harness import KEY, ROUTES, App, Json, ago, path_of, relay_to, store_delivery

MANAGED = [route for route in ROUTES if route.role is not None]
WITH_BODY = [route for route in MANAGED if route.request]
WITHOUT_BODY = [route for route in MANAGED if not route.request]


def pointers(answer: httpx.Response) -> list[str]:
    return [fault["pointer"] for fault in answer.json()["errors"]]


@pytest.mark.parametrize("route", MANAGED, ids=lambda route: route.name)
async def test_an_unknown_parameter_is_refused_by_its_name(app: App, route: Route) -> None:
    path = path_of(route, await app.register())
    for name in ("surprise", "Limit", "tenantid"):
        answer = await app.http.request(route.method, f"{path}?{name}=1", headers=KEY)
        assert (answer.status_code, pointers(answer)) == (400, [name])


@pytest.mark.parametrize(
    ("query", "name"),
    [
        pytest.param("status=ended&status=active", "status", id="two values"),
        pytest.param("limit=1&status=ended&limit=1", "limit", id="the same value twice"),
        pytest.param("code=x&code=y&limit=2", "code", id="the function key"),
    ],
)
async def test_a_repeated_parameter_is_refused_by_its_name(app: App, query: str, name: str) -> None:
    problem: Any = await app.asked("GET", f"calls?{query}", expect=400)
    assert [(fault["pointer"], fault["detail"]) for fault in problem["errors"]] == [(name, "appears more than once")]


async def test_more_parameters_than_any_route_has_are_refused(app: App) -> None:
    await app.ask("GET", "calls?" + "&".join(f"limit={number}" for number in range(99)), expect=400)


async def test_the_parameters_of_the_function_key_are_known(app: App) -> None:
    assert (await app.http.get(f"/api/calls?code={KEY['x-functions-key']}&clientId=default")).status_code == 200


@pytest.mark.parametrize("path", ["health?probe=7", "openapi.json?v=1"], ids=["health", "openapi"])
async def test_open_routes_accept_any_query(app: App, path: str) -> None:
    assert (await app.http.get(f"/api/{path}")).status_code in {200, 503}


@pytest.mark.parametrize("route", WITHOUT_BODY, ids=lambda route: route.name)
async def test_an_unexpected_body_is_refused(app: App, route: Route) -> None:
    call_id = await app.register()
    answer = await app.http.request(route.method, path_of(route, call_id), headers=KEY, json={"call": "another"})
    assert answer.status_code == 400
    assert "no body" in answer.json()["detail"]
    asked: Any = await app.simulator.control("GET", f"/requests?callId={call_id}")
    assert asked["value"] == []


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: route.name)
@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "application/xml; charset=utf-8",
        "application/json; charset=utf-16",
    ],
)
async def test_a_content_type_that_is_not_json_is_a_415(app: App, route: Route, content_type: str) -> None:
    headers = KEY | {"Content-Type": content_type}
    path = path_of(route, await app.register())
    answer = await app.http.request(route.method, path, headers=headers, content=b"{}")
    assert (answer.status_code, answer.headers["content-type"]) == (415, "application/problem+json")
    assert "Content-Type: application/json" in answer.json()["detail"]


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: route.name)
@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON;charset=utf-8", None])
async def test_any_spelling_of_the_content_type_of_json_is_accepted(
    app: App, route: Route, content_type: str | None
) -> None:
    headers = KEY | ({} if content_type is None else {"Content-Type": content_type})
    call_id = await app.register()
    path = path_of(route, call_id)
    if route.name == "replay_delivery":
        path = f"/api/deliveries/{(await store_delivery(app, call_id)).id}/replay"
    bodies: dict[str, Json] = {
        "register_call": {"tenantId": app.tenant},
        "replay_span": {"target": "bot", "from": ago(days=1), "to": ago(days=1)},
    }
    content = json.dumps(bodies.get(route.name, {}))
    async with app.configured(Services, **relay_to("bot")) as relaying:
        answer = await relaying.http.request(route.method, path, headers=headers, content=content)
    assert answer.is_success, answer.text


@pytest.mark.parametrize(
    ("body", "name"),
    [
        pytest.param(b'{"tenantId": "a", "tenantId": "b"}', "tenantId", id="two values"),
        pytest.param(b'{"metadata": {"queue": "a", "queue": "a"}}', "queue", id="the same value, in metadata"),
        pytest.param(b'{"metadata": {"queue": "a", "\\u0071ueue": "b"}}', "queue", id="an escaped name"),
    ],
)
async def test_a_repeated_name_in_an_object_is_refused(app: App, body: bytes, name: str) -> None:
    answer = await app.http.put(f"/api/calls/{await app.simulator.call(app.tenant)}", content=body, headers=KEY)
    assert answer.status_code == 400
    assert [fault["detail"] for fault in answer.json()["errors"]] == [f"{name} appears twice"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 60_000, id="deep list"),  # both deep bodies have less than 64 KiB
        pytest.param(b'{"metadata":' * 4_000, id="deep object"),
        pytest.param(b"\xff\xfe{\x00}\x00", id="UTF-16"),
        pytest.param(b"\xc3", id="half a character"),
        pytest.param(b"NaN", id="NaN"),
        pytest.param(b'{"startedAt": NaN}', id="NaN in an object"),
        pytest.param(b"{}{}", id="two objects"),
    ],
)
async def test_a_body_that_is_not_json_is_refused(app: App, body: bytes) -> None:
    answer = await app.http.put(f"/api/calls/{await app.simulator.call(app.tenant)}", content=body, headers=KEY)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:call-keeper:problem:invalid-request")
