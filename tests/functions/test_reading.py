"""Reading calls: one, lists, event logs, operations."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from shared.api.requests import MAX_PAGE_SIZE
from tests.functions.harness import KEY, App, about_call, about_operation


async def ended(app: App, number: int) -> list[str]:
    """Calls that ended, one after another."""
    ids = [str(uuid4()) for _ in range(number)]
    for call_id in ids:
        await app.notify(about_call(call_id, "deleted", state="terminated"))
    return ids


async def test_a_call_that_is_not_on_record_is_a_404_with_advice(app: App) -> None:
    unknown = uuid4()
    for method, path in (
        ("GET", ""),
        ("GET", "/events"),
        ("GET", "/operations"),
        ("GET", "/operations/x"),
        ("GET", "/deliveries"),
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


async def test_a_list_shows_leases_and_ends(app: App) -> None:
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
        pytest.param("status=lost", "status", id="unknown status"),
        pytest.param("status=Active", "status", id="status in another case"),
        pytest.param("limit=0", "limit", id="limit of 0"),
        pytest.param(f"limit={MAX_PAGE_SIZE + 1}", "limit", id="limit one too large"),
        pytest.param("limit=-1", "limit", id="negative limit"),
        pytest.param("limit=1.5", "limit", id="limit with a fraction"),
        pytest.param("limit=%2B5", "limit", id="limit with a plus sign"),
        pytest.param("limit=1_0", "limit", id="limit with an underscore"),
        pytest.param("limit=%C2%B2", "limit", id="limit is a superscript"),
        pytest.param("limit=99999999999999999999", "limit", id="limit of 20 digits"),
        pytest.param("tenantId=contoso.com", "tenantId", id="tenant as a domain"),
        pytest.param("tenantId=%27%20or%201%20eq%201", "tenantId", id="tenant with a filter"),
        pytest.param("continuation=x", "continuation", id="invented continuation"),
        pytest.param("continuation=%FF", "continuation", id="continuation not in UTF-8"),
        pytest.param(
            "continuation=WzEsImFjdGl2ZSIsbnVsbCwicmVjZW50fHgiXQ", "continuation", id="continuation of ended calls"
        ),
        pytest.param(
            "continuation=WzEsImFjdGl2ZSIsbnVsbCwiYWN0aXZlfFx1MDAwMCJd", "continuation", id="continuation with NUL"
        ),
        pytest.param(
            "continuation=WzEsImFjdGl2ZSIsbnVsbCwiYWN0aXZlfFx1ZDgwMCJd",
            "continuation",
            id="continuation with half a surrogate pair",
        ),
    ],
)
async def test_an_invalid_parameter_is_refused_by_its_name(app: App, query: str, pointer: str) -> None:
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


async def test_the_catalogue_of_codes_is_listed(app: App) -> None:
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
async def test_an_address_or_method_without_a_route_is_not_found(app: App, method: str, path: str) -> None:
    await app.ask(method, path, expect=404)


async def test_responses_must_not_be_cached(app: App) -> None:
    call_id = await app.register()
    for path in (f"calls/{call_id}", "calls", f"calls/{uuid4()}"):
        answer = await app.http.get(f"/api/{path}", headers=KEY)
        assert answer.headers["cache-control"] == "no-store"
