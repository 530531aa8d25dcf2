"""Authorization: the function key, which the host checks, and a token of Entra with a role if an audience is set."""

from typing import Any
from uuid import uuid4

import pytest

from functions.routing import Role, Route
from shared.auth.tokens import LEEWAY, MAX_TOKEN_LENGTH, Claims
from shared.services import Services
from tests.functions.harness import (
    APP_ID,
    AUDIENCE,
    FUNCTION_KEY,
    KEY,
    MANAGEMENT_TENANT,
    ROUTES,
    App,
    about_operation,
    asking_for_tokens,
    bearer,
    path_of,
)

GUARDED = [route for route in ROUTES if route.role is not None]


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: route.name)
async def test_without_the_function_key_the_host_opens_no_route_of_management(app: App, route: Route) -> None:
    for headers in ({}, {"x-functions-key": "another"}, {"x-functions-key": ""}):
        answer = await app.http.request(route.method, path_of(route), headers=headers)
        assert answer.status_code == 401


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: route.name)
async def test_with_an_audience_the_function_key_alone_is_not_enough(guarded: App, route: Route) -> None:
    answer = await guarded.http.request(route.method, path_of(route), headers=KEY)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: route.name)
async def test_a_token_alone_is_not_enough_either(guarded: App, route: Route) -> None:
    headers = {"Authorization": (await bearer(guarded, *Role))["Authorization"]}
    assert (await guarded.http.request(route.method, path_of(route), headers=headers)).status_code == 401


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: route.name)
async def test_a_route_asks_for_its_role(guarded: App, route: Route) -> None:
    assert route.role is not None
    others = [role for role in Role if role is not route.role]
    if route.role is Role.READ:
        others.remove(Role.MANAGE)  # Calls.Manage includes Calls.Read
    answer = await guarded.http.request(route.method, path_of(route), headers=await bearer(guarded, *others))
    assert answer.status_code == 403
    assert route.role.value in answer.json()["detail"]

    answer = await guarded.http.request(route.method, path_of(route), headers=await bearer(guarded, route.role))
    assert answer.status_code not in {401, 403}


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"audience": "api://another"}, id="another audience"),
        pytest.param({"audience": APP_ID}, id="the bot is the audience"),
        pytest.param(
            {"issuer": "https://login.microsoftonline.com/ffffffff-6e5f-4a3b-8c9d-0e1f2a3b4c5d/v2.0"},
            id="another tenant's issuer",
        ),
        pytest.param({"issuer": "https://api.botframework.com"}, id="Bot Framework's issuer"),
        pytest.param({"expiresIn": -LEEWAY.seconds - 1}, id="expired a second before the leeway"),
        pytest.param({"kind": "notification"}, id="token of a notification"),
    ],
)
async def test_a_token_that_is_not_for_us_is_refused(guarded: App, wrong: dict[str, Any]) -> None:
    answer = await guarded.http.get("/api/calls", headers=await bearer(guarded, *Role, **wrong))
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("", id="empty"),
        pytest.param("Bearer", id="no token"),
        pytest.param("Basic eDp5", id="Basic"),
        pytest.param("Bearer x.y.z", id="no JSON in the token"),
        pytest.param("Bearer " + "x" * (MAX_TOKEN_LENGTH + 1), id="too long"),
    ],
)
async def test_a_header_without_a_token_is_refused(guarded: App, header: str) -> None:
    answer = await guarded.http.get("/api/calls", headers=KEY | {"Authorization": header})
    assert answer.status_code == 401


class Saying:
    """Returns the same claims for every token. `TokenVerifier` has tests of its own."""

    def __init__(self, claims: Claims) -> None:
        self.claims = claims

    async def verify(self, authorization: str | None) -> Claims:  # noqa: ARG002 (the protocol's)
        return self.claims


async def test_an_id_token_is_no_access_token(guarded: App) -> None:
    """An ID token names no calling app, though its audience, issuer and roles may be valid."""
    said = Claims(MANAGEMENT_TENANT, AUDIENCE, roles=frozenset(Role))
    vars(guarded.parts)["management_verifier"] = Saying(said)
    for route in GUARDED:
        answer = await guarded.http.request(route.method, path_of(route), headers=KEY)
        assert answer.status_code == 401
        assert "access token" in answer.json()["detail"]


async def test_a_users_token_that_does_not_say_which_user_is_refused(guarded: App) -> None:
    said = Claims(MANAGEMENT_TENANT, AUDIENCE, APP_ID, "", frozenset(Role))
    vars(guarded.parts)["management_verifier"] = Saying(said)
    answer = await guarded.http.get("/api/calls", headers=KEY)
    assert answer.status_code == 401
    assert "`oid`" in answer.json()["detail"]


async def test_a_client_id_of_another_tenant_is_another_caller(app: App) -> None:
    """If MANAGEMENT_ISSUERS names several tenants each of them gives app roles to the apps that it knows."""
    other, login, names = str(uuid4()), app.simulator.login, []
    issuers = ",".join(f"{login}/{tenant}/v2.0" for tenant in (MANAGEMENT_TENANT, other))
    async with app.configured(Services, **asking_for_tokens(), MANAGEMENT_ISSUERS=issuers) as guarded:
        for tenant in (MANAGEMENT_TENANT, other):
            call_id, headers = str(uuid4()), await bearer(guarded, *Role, tenantId=tenant)
            await guarded.ask("PUT", f"calls/{call_id}", {"tenantId": app.tenant}, expect=201, headers=headers)
            ((_, detail),) = await guarded.lines(call_id, "registered", headers)
            names.append(detail["requestedBy"])
    assert names == [APP_ID, f"{APP_ID}@{other}"]


async def test_two_users_of_one_app_share_neither_name_nor_key_nor_continuation(guarded: App) -> None:
    call_id, other_id, operator = await guarded.simulator.call(guarded.tenant), str(uuid4()), str(uuid4())
    names, followings = [], []
    for user_id in (operator, other_id):
        said = Claims(MANAGEMENT_TENANT, AUDIENCE, APP_ID, user_id, frozenset(Role))
        vars(guarded.parts)["management_verifier"] = Saying(said)
        for known in (call_id, str(uuid4())):
            await guarded.http.put(f"/api/calls/{known}", json={"tenantId": guarded.tenant}, headers=KEY)
        answer = await guarded.http.post(
            f"/api/calls/{call_id}/record", json={}, headers=KEY | {"Idempotency-Key": '"one"'}
        )
        names.append(answer.json()["requestedBy"])
        page = await guarded.asked("GET", f"calls?tenantId={guarded.tenant}&limit=1")
        followings.append(str(page["continuation"]))
    assert names == [f"{APP_ID}/{operator}", f"{APP_ID}/{other_id}"]  # the key of the first did not answer the second

    await guarded.ask("GET", f"calls?tenantId={guarded.tenant}&limit=1&continuation={followings[1]}", expect=200)
    await guarded.ask("GET", f"calls?tenantId={guarded.tenant}&limit=1&continuation={followings[0]}", expect=400)


async def test_the_caller_is_the_app_of_the_token(guarded: App) -> None:
    call_id = await guarded.simulator.call(guarded.tenant)
    headers = await bearer(guarded, Role.MANAGE)
    await guarded.ask("PUT", f"calls/{call_id}", {"tenantId": guarded.tenant}, expect=201, headers=headers)
    call: Any = await guarded.asked("POST", f"calls/{call_id}/hangup", expect=202, headers=headers)
    assert call["hangup"]["requestedBy"] == APP_ID
    events = [line for word in ("registered", "hangup") for line in await guarded.lines(call_id, word, headers)]
    assert [(kind, detail["requestedBy"]) for kind, detail in events] == [
        ("registered", APP_ID),
        ("hangupRequested", APP_ID),
        ("hangupAnswered", APP_ID),
    ]


async def test_only_a_reader_of_recordings_gets_place_and_token_and_only_from_the_operations_route(
    guarded: App,
) -> None:
    call_id, operation_id = str(uuid4()), str(uuid4())
    await guarded.notify(
        about_operation(
            call_id,
            operation_id,
            status="completed",
            recordingLocation="https://place.example/recording",
            recordingAccessToken="recording-token",
        )
    )
    reader, listener = await bearer(guarded, Role.READ), await bearer(guarded, Role.READ, Role.RECORDINGS)
    manager = await bearer(guarded, Role.MANAGE)
    place = f"calls/{call_id}/operations/{operation_id}"
    for headers in (reader, manager):
        shown = await guarded.asked("GET", place, headers=headers)
        assert (shown["recordingLocation"], shown["recordingAccessToken"]) == (None, None)
    shown = await guarded.asked("GET", place, headers=listener)
    assert shown["recordingLocation"] == "https://place.example/recording"
    assert shown["recordingAccessToken"] == "recording-token"
    for path in (f"calls/{call_id}/operations", f"calls/{call_id}", f"calls/{call_id}/events", "calls"):
        text = (await guarded.ask("GET", path, expect=200, headers=listener)).text
        assert "place.example" not in text
        assert "recording-token" not in text


async def test_keys_that_cannot_be_fetched_close_the_routes(app: App) -> None:
    async with app.configured(
        MANAGEMENT_AUDIENCE=AUDIENCE,
        MANAGEMENT_METADATA_URL="http://127.0.0.1:9/",
        MANAGEMENT_ISSUERS=f"{app.simulator.login}/{MANAGEMENT_TENANT}/v2.0",
    ) as cut_off:
        answer = await cut_off.http.get("/api/calls", headers=await bearer(cut_off, *Role))
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"


async def test_routes_that_are_open_stay_so(guarded: App) -> None:
    for path in ("health", "openapi.json"):
        assert (await guarded.http.get(f"/api/{path}")).status_code in {200, 503}


async def test_a_key_in_the_query_is_as_good_as_in_the_header(app: App) -> None:
    assert (await app.http.get(f"/api/calls?code={FUNCTION_KEY}")).status_code == 200
