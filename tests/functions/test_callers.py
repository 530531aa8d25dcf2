"""Callers who are bound to tenants: the calls of others are as if they did not exist."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from functions.http import Role, Route
from shared.services import Services
from tests.functions.harness import KEY, ROUTES, App, about_call, about_operation, asking_for_tokens, bearer

BOT, OTHER_BOT, OPERATOR, STRANGER = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "abcd")
OF_A_CALL = [route for route in ROUTES if "{callId}" in route.path and route.name != "register_call"]
OPERATION = "b0d7a3c1-5e42-4f19-9c68-7a1e2d3f4b50"


@pytest.fixture
def elsewhere() -> str:
    """A tenant that the bot is not bound to."""
    return str(uuid4())


@pytest.fixture
async def bound(app: App, elsewhere: str) -> AsyncIterator[App]:
    """The app with the bot bound to the tenant of this test, and another bot to that and the other one."""
    callers = {
        BOT.upper(): {"tenants": [app.tenant.upper()]},
        OTHER_BOT: {"tenants": [app.tenant, elsewhere]},
        OPERATOR: "all",
    }
    settings = {**asking_for_tokens(app.simulator), "MANAGEMENT_CALLERS": json.dumps(callers)}
    async with app.configured(Services, **settings) as with_callers:
        yield with_callers


async def as_bot(app: App, app_id: str = BOT) -> dict[str, str]:
    return await bearer(app, *Role, appId=app_id)


async def call_with_operation(app: App, tenant: str) -> str:
    """A call that is on record, with an operation."""
    call_id = await app.simulator.call(tenant)
    await app.notify(about_operation(call_id, OPERATION, status="running"), tenant=tenant)
    return call_id


async def graph_was_asked(app: App, call_id: str) -> bool:
    return bool((await app.simulator.control("GET", f"/requests?callId={call_id}"))["value"])


@pytest.mark.parametrize("over", [False, True], ids=["active", "ended"])
@pytest.mark.parametrize("route", OF_A_CALL, ids=lambda route: route.name)
async def test_a_call_of_others_answers_as_one_that_does_not_exist(
    bound: App, elsewhere: str, route: Route, over: bool
) -> None:
    theirs, nobodys, headers = await call_with_operation(bound, elsewhere), str(uuid4()), await as_bot(bound)
    if over:
        await bound.notify(about_call(theirs, "deleted", state="terminated"), tenant=elsewhere)
    path = route.path.replace("{operationId}", OPERATION)
    of_theirs, of_nobodys = [
        await bound.ask(route.method, path.replace("{callId}", call_id), expect=404, headers=headers)
        for call_id in (theirs, nobodys)
    ]
    assert of_theirs.text.replace(theirs, nobodys) == of_nobodys.text
    assert {**of_theirs.headers, "date": ""} == {**of_nobodys.headers, "date": ""}
    assert not await graph_was_asked(bound, theirs)
    events = (await bound.ask("GET", f"calls/{theirs}/events", expect=200, headers=await as_bot(bound, OPERATOR))).text
    assert BOT not in events.lower()


async def test_reads_of_a_call_of_others_are_as_many_as_of_one_that_does_not_exist(
    bound: App, elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, headers = await call_with_operation(bound, elsewhere), await as_bot(bound)
    await bound.asked("GET", "calls", headers=headers)
    counts: list[int] = []
    table = bound.parts.store._table
    read = table.read

    async def counted(shard: int, key: str) -> Any:  # noqa: ANN401 (whatever the table says)
        counts[-1] += 1
        return await read(shard, key)

    monkeypatch.setattr(table, "read", counted)
    for call_id in (theirs, str(uuid4())):
        counts.append(0)
        await bound.ask("GET", f"calls/{call_id}", expect=404, headers=headers)
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("route", OF_A_CALL, ids=lambda route: route.name)
async def test_a_bound_caller_does_everything_with_its_own_calls(bound: App, route: Route) -> None:
    call_id = await call_with_operation(bound, bound.tenant)
    path = f"/api/{route.path}".replace("{callId}", call_id).replace("{operationId}", OPERATION)
    answer = await bound.http.request(route.method, path, headers=await as_bot(bound))
    assert answer.is_success, answer.text


async def test_a_bound_caller_registers_calls_of_its_tenants_alone(bound: App, elsewhere: str) -> None:
    headers, call_id = await as_bot(bound), await bound.simulator.call(elsewhere)
    wish: Any = {"tenantId": elsewhere}
    refused = await bound.asked("PUT", f"calls/{call_id}", wish, expect=403, headers=headers)
    assert "MANAGEMENT_CALLERS" in str(refused["detail"])
    await bound.ask("GET", f"calls/{call_id}", expect=404, headers=await as_bot(bound, OPERATOR))
    mine = await bound.simulator.call(bound.tenant)
    await bound.ask("PUT", f"calls/{mine}", {"tenantId": bound.tenant}, expect=201, headers=headers)


async def test_a_bound_caller_takes_over_no_call_of_others_by_registering_it(bound: App, elsewhere: str) -> None:
    """One that only notifications made known would have its tenant corrected."""
    theirs = await call_with_operation(bound, elsewhere)
    await bound.ask("PUT", f"calls/{theirs}", {"tenantId": bound.tenant}, expect=404, headers=await as_bot(bound))
    kept = await bound.asked("GET", f"calls/{theirs}", headers=await as_bot(bound, OPERATOR))
    assert (kept["tenantId"], kept["registeredAt"]) == (elsewhere, None)


@pytest.mark.parametrize("status", ["active", "ended"])
async def test_a_list_holds_the_calls_of_the_callers_tenants_alone(bound: App, elsewhere: str, status: str) -> None:
    mine, theirs = str(uuid4()), str(uuid4())
    for call_id, tenant in ((mine, bound.tenant), (theirs, elsewhere)):
        change, state = ("deleted", "terminated") if status == "ended" else ("updated", "established")
        await bound.notify(about_call(call_id, change, state=state), tenant=tenant)

    async def listed(app_id: str, query: str = "") -> set[str]:
        page: Any = await bound.asked("GET", f"calls?status={status}{query}", headers=await as_bot(bound, app_id))
        return {call["id"] for call in page["value"]}

    assert await listed(BOT) == {mine}
    assert await listed(BOT, f"&tenantId={bound.tenant}") == {mine}
    assert await listed(BOT, f"&tenantId={elsewhere}") == set()
    assert await listed(OTHER_BOT) == {mine, theirs}
    assert await listed(OTHER_BOT, f"&tenantId={elsewhere}") == {theirs}
    assert {mine, theirs} <= await listed(OPERATOR, "&limit=200")


async def test_a_continuation_is_good_for_the_caller_it_was_given_to_alone(bound: App) -> None:
    ids = sorted(str(uuid4()) for _ in range(3))
    await asyncio.gather(*(bound.notify(about_call(call_id, state="established")) for call_id in ids))
    mine, query = await as_bot(bound), f"calls?tenantId={bound.tenant}&limit=2"
    first: Any = await bound.asked("GET", query, headers=mine)
    place, _, seal = first["continuation"].partition(".")
    following = f"{query}&continuation={first['continuation']}"
    second: Any = await bound.asked("GET", following, headers=mine)
    assert [call["id"] for page in (first, second) for call in page["value"]] == ids

    await bound.ask("GET", following, expect=400, headers=await as_bot(bound, OTHER_BOT))
    for forged in (place, f"{place}.", f"{place}.{seal[::-1]}", f"{place[:-2]}AA.{seal}", f".{seal}", "é.é"):
        problem: Any = await bound.asked("GET", f"{query}&continuation={forged}", expect=400, headers=mine)
        assert [fault["pointer"] for fault in problem["errors"]] == ["continuation"]


async def test_a_sweep_of_all_calls_is_not_for_a_bound_caller(bound: App) -> None:
    await bound.ask("POST", "keep-alive", expect=403, headers=await as_bot(bound))
    await bound.ask("POST", "keep-alive", expect=200, headers=await as_bot(bound, OPERATOR))


async def test_a_caller_whom_the_setting_does_not_name_is_refused(bound: App) -> None:
    for app_id in (STRANGER, ""):
        await bound.ask("GET", "calls", expect=403, headers=await as_bot(bound, app_id))


async def test_the_asterisk_is_for_all_whom_no_other_entry_names(app: App) -> None:
    callers = json.dumps({"*": {"tenants": [app.tenant]}, BOT: "all"})
    theirs = str(uuid4())
    await app.notify(about_call(theirs, state="established"), tenant=str(uuid4()))
    async with app.configured(Services, **asking_for_tokens(app.simulator), MANAGEMENT_CALLERS=callers) as with_callers:
        await with_callers.ask("GET", f"calls/{theirs}", expect=404, headers=await as_bot(with_callers, STRANGER))
        await with_callers.ask("GET", f"calls/{theirs}", expect=200, headers=await as_bot(with_callers, BOT))


async def test_with_the_function_key_alone_nobody_is_bound(app: App) -> None:
    call_id = str(uuid4())
    await app.notify(about_call(call_id, state="established"), tenant=str(uuid4()))
    await app.ask("GET", f"calls/{call_id}", expect=200, headers=KEY)
