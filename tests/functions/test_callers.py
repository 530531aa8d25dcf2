"""Callers that are bound to tenants or apps: other calls are treated as absent."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import pytest
from pydantic import JsonValue

from functions.routing import Role, Route
from shared.api.requests import MAX_PAGE_SIZE
from shared.domain.calls import Call
from shared.services import Services
from shared.storage.store import Change
from tests.functions.harness import (
    APP_ID,
    KEY,
    MANAGEMENT_TENANT,
    ROUTES,
    App,
    Json,
    about_call,
    about_operation,
    asking_for_tokens,
    bearer,
)

BOT, OTHER_BOT, OPERATOR, STRANGER = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "abcd")
OF_A_CALL = [route for route in ROUTES if "{callId}" in route.path and route.name != "register_call"]
OPERATION = "b0d7a3c1-5e42-4f19-9c68-7a1e2d3f4b50"


@dataclass(frozen=True)
class Place:
    """The tenant and the app of a call."""

    tenant: str
    app_id: str

    @property
    def registration(self) -> Json:
        """The body that registers such a call."""
        return {"tenantId": self.tenant, "appId": self.app_id}


@pytest.fixture
def here(app: App) -> Place:
    """The tenant and app that the bot is bound to."""
    return Place(app.tenant, str(uuid4()))


@pytest.fixture(params=["tenants", "apps"])
def bond(request: pytest.FixtureRequest) -> str:
    """Callers are bound by tenants or by apps."""
    return str(request.param)


@pytest.fixture
def elsewhere(here: Place, bond: str) -> Place:
    """Another tenant, or another app of the same tenant, which the bot is not bound to."""
    return replace(here, **{"tenant" if bond == "tenants" else "app_id": str(uuid4())})


@pytest.fixture
async def bound(app: App, bond: str, here: Place, elsewhere: Place) -> AsyncIterator[App]:
    """The app with the bot bound to one place, and another bot to that and the other one."""
    mine, theirs = ((place.tenant if bond == "tenants" else place.app_id) for place in (here, elsewhere))
    callers = {BOT.upper(): {bond: [mine.upper()]}, OTHER_BOT: {bond: [mine, theirs]}, OPERATOR: "all"}
    async with serving(app, callers, here, elsewhere) as with_callers:
        yield with_callers


@asynccontextmanager
async def serving(app: App, callers: Mapping[str, object], *places: Place) -> AsyncIterator[App]:
    """The app with these callers, and with the bots of these places."""
    bots = [
        {"appId": app_id, "credential": "secret", "clientSecretSetting": "GRAPH_CLIENT_SECRET"}
        for app_id in {place.app_id for place in places}
    ]
    settings = {"MANAGEMENT_CALLERS": json.dumps(callers), "GRAPH_APPS": json.dumps(bots)}
    async with app.configured(Services, **asking_for_tokens(), **settings) as with_callers:
        yield with_callers


async def as_bot(app: App, app_id: str = BOT) -> dict[str, str]:
    return await bearer(app, *Role, appId=app_id)


async def tell(app: App, place: Place, *items: JsonValue) -> None:
    """Notify of calls of a place."""
    await app.notify(*items, headers=await app.simulator.signature(place.tenant, audience=place.app_id))


async def call_with_operation(app: App, place: Place) -> str:
    """A call that is on record, with an operation."""
    call_id = await app.simulator.call(place.tenant, appId=place.app_id)
    await tell(app, place, about_operation(call_id, OPERATION, status="running"))
    return call_id


async def graph_was_asked(app: App, call_id: str) -> bool:
    return bool((await app.simulator.control("GET", f"/requests?callId={call_id}"))["value"])


async def test_a_caller_that_is_bound_in_one_tenant_is_refused_in_another(app: App) -> None:
    """With issuers of several tenants, a client is its id and its tenant. `*` does not cover a named client."""
    other, login = str(uuid4()), app.simulator.login
    issuers = ",".join(f"{login}/{tenant}/v2.0" for tenant in (MANAGEMENT_TENANT, other))
    callers = {f"{BOT}@{other}": {"tenants": [app.tenant]}, "*": "all"}
    settings = {"MANAGEMENT_ISSUERS": issuers, "MANAGEMENT_CALLERS": json.dumps(callers)}
    async with app.configured(Services, **asking_for_tokens(), **settings) as bound:
        await bound.ask("GET", "calls", expect=200, headers=await bearer(bound, *Role, appId=OPERATOR))
        theirs = await bearer(bound, *Role, appId=BOT, tenantId=other)
        await bound.ask("GET", "calls", expect=200, headers=theirs)
        await bound.ask("POST", "keep-alive", expect=403, headers=theirs)  # it is bound
        await bound.ask("GET", "calls", expect=403, headers=await bearer(bound, *Role, appId=BOT))


@pytest.mark.parametrize("over", [False, True], ids=["active", "ended"])
@pytest.mark.parametrize("route", OF_A_CALL, ids=lambda route: route.name)
async def test_a_call_out_of_scope_is_answered_like_an_absent_one(
    bound: App, elsewhere: Place, route: Route, over: bool
) -> None:
    theirs, absent, headers = await call_with_operation(bound, elsewhere), str(uuid4()), await as_bot(bound)
    if over:
        await tell(bound, elsewhere, about_call(theirs, "deleted", state="terminated"))
    path = route.path.replace("{operationId}", OPERATION)
    of_theirs, of_absent = [
        await bound.ask(route.method, path.replace("{callId}", call_id), expect=404, headers=headers)
        for call_id in (theirs, absent)
    ]
    assert of_theirs.text.replace(theirs, absent) == of_absent.text
    assert {**of_theirs.headers, "date": ""} == {**of_absent.headers, "date": ""}
    assert not await graph_was_asked(bound, theirs)
    events = (await bound.ask("GET", f"calls/{theirs}/events", expect=200, headers=await as_bot(bound, OPERATOR))).text
    assert BOT not in events.lower()


async def test_a_call_out_of_scope_takes_as_many_reads_as_an_absent_one(
    bound: App, elsewhere: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, headers = await call_with_operation(bound, elsewhere), await as_bot(bound)
    await bound.asked("GET", "calls", headers=headers)
    counts: list[int] = []
    table = bound.parts.store._table
    read = table.read

    async def counted(shard: int, key: str) -> Any:  # noqa: ANN401 (the table's own type)
        counts[-1] += 1
        return await read(shard, key)

    monkeypatch.setattr(table, "read", counted)
    for call_id in (theirs, str(uuid4())):
        counts.append(0)
        await bound.ask("GET", f"calls/{call_id}", expect=404, headers=headers)
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("route", OF_A_CALL, ids=lambda route: route.name)
async def test_a_bound_caller_does_everything_with_its_own_calls(bound: App, here: Place, route: Route) -> None:
    call_id = await call_with_operation(bound, here)
    path = f"/api/{route.path}".replace("{callId}", call_id).replace("{operationId}", OPERATION)
    answer = await bound.http.request(route.method, path, headers=await as_bot(bound))
    assert answer.is_success, answer.text


async def test_a_bound_caller_registers_only_calls_of_its_tenants_or_apps(
    bound: App, here: Place, elsewhere: Place
) -> None:
    headers, call_id = await as_bot(bound), str(uuid4())
    refused = await bound.asked("PUT", f"calls/{call_id}", elsewhere.registration, expect=403, headers=headers)
    assert "MANAGEMENT_CALLERS" in str(refused["detail"])
    await bound.ask("GET", f"calls/{call_id}", expect=404, headers=await as_bot(bound, OPERATOR))
    await bound.ask("PUT", f"calls/{call_id}", here.registration, expect=201, headers=headers)
    moved = await bound.asked("PUT", f"calls/{call_id}", elsewhere.registration, expect=403, headers=headers)
    assert moved["detail"] == refused["detail"]


async def test_a_bound_caller_cannot_take_over_a_call_by_registering_it(
    bound: App, here: Place, elsewhere: Place
) -> None:
    """Another caller's registration would correct the tenant of a call that is known only from notifications."""
    theirs = await call_with_operation(bound, elsewhere)
    await bound.ask("PUT", f"calls/{theirs}", here.registration, expect=404, headers=await as_bot(bound))
    kept = await bound.asked("GET", f"calls/{theirs}", headers=await as_bot(bound, OPERATOR))
    assert (kept["tenantId"], kept["appId"], kept["registeredAt"]) == (elsewhere.tenant, elsewhere.app_id, None)


@pytest.mark.parametrize("status", ["active", "ended"])
async def test_a_list_has_only_calls_of_the_callers_tenants_or_apps(
    bound: App, bond: str, here: Place, elsewhere: Place, status: str
) -> None:
    mine, theirs = str(uuid4()), str(uuid4())
    for call_id, place in ((mine, here), (theirs, elsewhere)):
        change, state = ("deleted", "terminated") if status == "ended" else ("updated", "established")
        await tell(bound, place, about_call(call_id, change, state=state))

    async def listed(app_id: str, query: str = "") -> set[str]:
        page: Any = await bound.asked("GET", f"calls?status={status}{query}", headers=await as_bot(bound, app_id))
        return {call["id"] for call in page["value"]}

    assert await listed(BOT) == {mine}
    assert await listed(BOT, f"&tenantId={here.tenant}") == {mine}
    assert await listed(BOT, f"&tenantId={elsewhere.tenant}") == (set() if bond == "tenants" else {mine})
    assert await listed(OTHER_BOT) == {mine, theirs}
    of_the_other_tenant = {theirs} if bond == "tenants" else {mine, theirs}
    assert await listed(OTHER_BOT, f"&tenantId={elsewhere.tenant}") == of_the_other_tenant
    assert await listed(OPERATOR, f"&tenantId={elsewhere.tenant}") == of_the_other_tenant
    assert {mine, theirs} <= await listed(OPERATOR, f"&limit={MAX_PAGE_SIZE}")


async def test_a_continuation_is_valid_only_for_the_caller_that_received_it(bound: App, here: Place) -> None:
    ids = sorted(str(uuid4()) for _ in range(3))
    await asyncio.gather(*(tell(bound, here, about_call(call_id, state="established")) for call_id in ids))
    mine, query = await as_bot(bound), f"calls?tenantId={bound.tenant}&limit=2"
    first: Any = await bound.asked("GET", query, headers=mine)
    position, _, signature = first["continuation"].partition(".")
    following = f"{query}&continuation={first['continuation']}"
    second: Any = await bound.asked("GET", following, headers=mine)
    assert [call["id"] for page in (first, second) for call in page["value"]] == ids

    await bound.ask("GET", following, expect=400, headers=await as_bot(bound, OTHER_BOT))
    for forged in (
        position,
        f"{position}.",
        f"{position}.{signature[::-1]}",
        f"{position[:-2]}AA.{signature}",
        f".{signature}",
        "é.é",
    ):
        problem: Any = await bound.asked("GET", f"{query}&continuation={forged}", expect=400, headers=mine)
        assert [fault["pointer"] for fault in problem["errors"]] == ["continuation"]


async def test_a_caller_bound_to_a_tenant_and_an_app_sees_only_calls_of_both(app: App) -> None:
    here = Place(app.tenant, str(uuid4()))
    of_another_app, of_another_tenant = replace(here, app_id=str(uuid4())), replace(here, tenant=str(uuid4()))
    callers = {BOT: {"tenants": [here.tenant], "apps": [here.app_id]}}
    async with serving(app, callers, here, of_another_app) as served:
        headers, mine = await as_bot(served), str(uuid4())
        await tell(served, here, about_call(mine, state="established"))
        for place in (of_another_app, of_another_tenant):
            theirs = str(uuid4())
            await tell(served, place, about_call(theirs, state="established"))
            await served.ask("GET", f"calls/{theirs}", expect=404, headers=headers)
            await served.ask("PUT", f"calls/{uuid4()}", place.registration, expect=403, headers=headers)
        page: Any = await served.asked("GET", "calls", headers=headers)
        assert [call["id"] for call in page["value"]] == [mine]


async def test_calls_without_an_app_belong_to_the_default_app(app: App) -> None:
    old, now = str(uuid4()), app.clock.now()
    await app.parts.store.commit(Change(None, Call(old, app.tenant, "established", known_at=now, started_at=now)))
    second = Place(app.tenant, str(uuid4()))
    callers = {BOT: {"apps": [APP_ID]}, OTHER_BOT: {"apps": [second.app_id]}}
    async with serving(app, callers, second) as served:
        mine, others = await as_bot(served), await as_bot(served, OTHER_BOT)
        for headers, expect, listed in ((mine, 200, [old]), (others, 404, [])):
            await served.ask("GET", f"calls/{old}", expect=expect, headers=headers)
            page: Any = await served.asked("GET", f"calls?tenantId={app.tenant}", headers=headers)
            assert [call["id"] for call in page["value"]] == listed
        await served.ask("PUT", f"calls/{old}", second.registration, expect=404, headers=others)
        await served.ask("PUT", f"calls/{old}", {"tenantId": app.tenant}, expect=200, headers=mine)


async def test_a_sweep_of_all_calls_is_not_for_a_bound_caller(bound: App) -> None:
    await bound.ask("POST", "keep-alive", expect=403, headers=await as_bot(bound))
    await bound.ask("POST", "keep-alive", expect=200, headers=await as_bot(bound, OPERATOR))


async def test_a_caller_that_the_setting_does_not_name_is_refused(bound: App) -> None:
    for app_id, status in ((STRANGER, 403), ("", 401)):
        await bound.ask("GET", "calls", expect=status, headers=await as_bot(bound, app_id))


async def test_the_asterisk_is_for_all_callers_that_no_other_entry_names(app: App) -> None:
    callers = json.dumps({"*": {"tenants": [app.tenant]}, BOT: "all"})
    theirs = str(uuid4())
    await app.notify(about_call(theirs, state="established"), tenant=str(uuid4()))
    async with app.configured(Services, **asking_for_tokens(), MANAGEMENT_CALLERS=callers) as with_callers:
        await with_callers.ask("GET", f"calls/{theirs}", expect=404, headers=await as_bot(with_callers, STRANGER))
        await with_callers.ask("GET", f"calls/{theirs}", expect=200, headers=await as_bot(with_callers, BOT))


async def test_no_caller_is_bound_if_only_the_function_key_is_asked_for(app: App) -> None:
    call_id = str(uuid4())
    await app.notify(about_call(call_id, state="established"), tenant=str(uuid4()))
    await app.ask("GET", f"calls/{call_id}", expect=200, headers=KEY)
