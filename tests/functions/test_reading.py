"""Reading calls: one, lists, their story."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from tests.functions.harness import KEY, App, about_call, about_operation


async def ended(app: App, number: int) -> list[str]:
    """Calls that ended, one after another."""
    ids = [str(uuid4()) for _ in range(number)]
    for call_id in ids:
        await app.notify(about_call(call_id, "deleted", state="terminated"))
    return ids


async def test_a_call_that_is_not_on_record_is_a_404_that_says_what_to_do(app: App) -> None:
    unknown = uuid4()
    for method, path in (
        ("GET", ""),
        ("GET", "/events"),
        ("GET", "/operations"),
        ("GET", "/operations/x"),
        ("POST", "/hangup"),
        ("POST", "/record"),
    ):
        problem = await app.asked(method, f"calls/{unknown}{path}", expect=404)
        assert problem["type"] == "urn:call-keeper:problem:call-not-found"
        assert "Register it with PUT" in str(problem["detail"])


async def test_an_operation_that_is_not_on_record_is_a_404(app: App) -> None:
    call_id = await app.register()
    problem = await app.asked("GET", f"calls/{call_id}/operations/{uuid4()}", expect=404)
    assert "no operation" in str(problem["detail"])
    assert f"GET /api/calls/{call_id}/operations" in str(problem["detail"])


async def test_the_events_are_in_order_of_time(app: App) -> None:
    call_id = await app.register()
    await app.notify(about_call(call_id, state="establishing"))
    await app.notify(about_call(call_id, state="established"))
    await app.ask("POST", f"calls/{call_id}/hangup", expect=202)
    await app.notify(about_call(call_id, "deleted", state="terminated", resultInfo={"code": 200, "subcode": 5001}))
    events: Any = (await app.asked("GET", f"calls/{call_id}/events"))["value"]
    kinds = [(event["kind"], event["detail"].get("state")) for event in events]
    assert kinds == [
        ("firstSeen", None),
        ("registered", None),
        ("callNotified", "establishing"),
        ("callNotified", "established"),
        ("hangupRequested", None),
        ("hangupAnswered", None),
        ("callNotified", "terminated"),
    ]
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)
    assert all(event["at"].endswith("Z") for event in events)


async def test_active_calls_are_listed_by_id_page_by_page(app: App) -> None:
    ids = sorted(str(uuid4()) for _ in range(7))
    await asyncio.gather(*(app.register(call_id) for call_id in ids))
    seen: list[str] = []
    query = f"calls?tenantId={app.tenant.upper()}&limit=3"
    sizes: list[int] = []
    following: Any = ""
    while following is not None:
        page: Any = await app.asked("GET", query + (f"&continuation={following}" if following else ""))
        sizes.append(len(page["value"]))
        seen += [call["id"] for call in page["value"]]
        following = page["continuation"]
    assert sizes == [3, 3, 1]
    assert seen == ids


async def test_ended_calls_are_listed_newest_first_page_by_page(app: App) -> None:
    ids = await ended(app, 5)
    await app.register()
    page: Any = await app.asked("GET", f"calls?status=ended&tenantId={app.tenant}&limit=2")
    seen = [call["id"] for call in page["value"]]
    while page["continuation"]:
        path = f"calls?status=ended&tenantId={app.tenant}&limit=2&continuation={page['continuation']}"
        page = await app.asked("GET", path)
        seen += [call["id"] for call in page["value"]]
    assert seen == ids[::-1]


async def test_a_list_tells_of_leases_and_ends(app: App) -> None:
    call_id = await app.register()
    (over,) = await ended(app, 1)
    active: Any = await app.asked("GET", f"calls?tenantId={app.tenant}")
    gone: Any = await app.asked("GET", f"calls?tenantId={app.tenant}&status=ended")
    assert active["value"] == [await app.asked("GET", f"calls/{call_id}")]
    assert gone["value"] == [await app.asked("GET", f"calls/{over}")]
    assert (active["value"][0]["termination"], gone["value"][0]["lease"]) == (None, None)


async def test_a_page_without_calls_is_empty(app: App) -> None:
    assert await app.asked("GET", f"calls?tenantId={uuid4()}") == {"value": [], "continuation": None, "unreadable": []}


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("status=lost", "status"),
        ("status=Active", "status"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=1.5", "limit"),
        ("limit=%C2%B2", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("tenantId=contoso.com", "tenantId"),
        ("tenantId=%27%20or%201%20eq%201", "tenantId"),
        ("continuation=x", "continuation"),
        ("continuation=%FF", "continuation"),
        ("continuation=WzEsImFjdGl2ZSIsbnVsbCwicmVjZW50fHgiXQ", "continuation"),
        ("continuation=WzEsImFjdGl2ZSIsbnVsbCwiYWN0aXZlfFx1MDAwMCJd", "continuation"),
        ("continuation=WzEsImFjdGl2ZSIsbnVsbCwiYWN0aXZlfFx1ZDgwMCJd", "continuation"),
    ],
)
async def test_a_parameter_that_is_off_is_refused_by_its_name(app: App, query: str, pointer: str) -> None:
    problem: Any = await app.asked("GET", f"calls?{query}", expect=400)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


async def test_a_continuation_of_another_list_is_refused(app: App) -> None:
    await asyncio.gather(app.register(), app.register())
    page: Any = await app.asked("GET", f"calls?tenantId={app.tenant}&limit=1")
    for other in ("status=ended", f"tenantId={uuid4()}", ""):
        tenant = "" if "tenantId" in other else f"tenantId={app.tenant}&" * bool(other)
        path = f"calls?{tenant}{other}&continuation={page['continuation']}"
        problem: Any = await app.asked("GET", path, expect=400)
        assert problem["errors"][0]["pointer"] == "continuation"


async def test_empty_parameters_are_as_if_left_out(app: App) -> None:
    await app.asked("GET", "calls?status=&limit=&tenantId=&continuation=")


async def test_operations_are_listed_oldest_first_without_places_and_tokens(app: App) -> None:
    call_id = await app.register()
    ids = [str(uuid4()) for _ in range(3)]
    for operation_id in ids:
        await app.notify(
            about_operation(call_id, operation_id, status="completed", recordingLocation="https://place.example/x")
        )
    listed: Any = await app.asked("GET", f"calls/{call_id}/operations")
    assert [operation["id"] for operation in listed["value"]] == ids
    assert "place.example" not in str(listed)
    assert not any("recordingLocation" in operation for operation in listed["value"])


async def test_an_operation_is_read_in_both_forms_of_its_id(app: App) -> None:
    call_id, operation_id = await app.register(), str(uuid4())
    await app.notify(about_operation(call_id, operation_id, status="running", clientContext="mine"))
    bare = operation_id.replace("-", "").upper()
    operation = await app.asked("GET", f"calls/{call_id}/operations/{bare}")
    assert (operation["id"], operation["status"], operation["clientContext"]) == (operation_id, "running", "mine")
    assert (operation["requestedAt"], operation["recordingLocation"]) == (None, None)


async def test_a_recording_that_was_under_way_when_its_call_ended_is_lost(app: App) -> None:
    call_id, operation_id = await app.register(), str(uuid4())
    await app.notify(about_operation(call_id, operation_id, status="running"))
    await app.notify(about_call(call_id, "deleted", state="terminated"))
    assert (await app.asked("GET", f"calls/{call_id}/operations/{operation_id}"))["status"] == "lost"


async def test_the_catalogue_of_codes_is_told(app: App) -> None:
    catalogue: Any = await app.asked("GET", "termination-codes")
    codes = catalogue["value"]
    assert [code for code in codes if (code["code"], code["subcode"]) == (408, 8537)]
    assert all(code["reason"] and code["category"] and code["source"] and code["action"] for code in codes)
    assert all(code["faultOwner"] and code["evidence"] and code["retryable"] in {True, False} for code in codes)
    assert [code for code in codes if (code["code"], code["subcode"]) == (503, None)]
    assert {"AppInitiated", "AppTransferred"} <= {word["terminationReason"] for word in catalogue["terminationReasons"]}


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", "calls/x"), ("POST", "calls"), ("GET", "notifications"), ("GET", "nowhere"), ("GET", "calls/x/hangup")],
)
async def test_what_is_no_route_is_not_found(app: App, method: str, path: str) -> None:
    await app.ask(method, path, expect=404)


async def test_answers_are_not_to_be_stored(app: App) -> None:
    call_id = await app.register()
    for path in (f"calls/{call_id}", "calls", f"calls/{uuid4()}"):
        answer = await app.http.get(f"/api/{path}", headers=KEY)
        assert answer.headers["cache-control"] == "no-store"
