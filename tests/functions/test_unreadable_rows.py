"""Rows that cannot be read, in a real table: lists, sweeps, the webhook and other calls go on."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from azure.data.tables import EdmType, EntityProperty, UpdateMode
from azure.data.tables.aio import TableClient
from pydantic import JsonValue

from functions.routing import Role
from shared import services
from shared.storage.azure_table import AzureTable
from shared.storage.store import SHARDS, shard_of
from tests.functions.harness import KEY, App, about_call, about_operation, asking_for_tokens, bearer


@pytest.fixture
async def app(app: App, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    """The app with a table of its own: other tests shall not meet these rows."""
    monkeypatch.setattr(services, "TABLE_NAME", f"rows{uuid4().hex}")
    async with app.configured() as alone:
        yield alone


@pytest.fixture
async def table(app: App) -> TableClient:
    assert isinstance(app.parts.store._table, AzureTable)
    return app.parts.store._table._client


async def change(table: TableClient, shard: int, row_key: str, /, **columns: Any) -> None:  # noqa: ANN401 (cells)
    await table.upsert_entity({"PartitionKey": f"{shard:02}", "RowKey": row_key, **columns}, mode=UpdateMode.MERGE)


async def damage(table: TableClient, call_id: str, kind: str = "active", **columns: Any) -> None:  # noqa: ANN401 (cells)
    """Change columns of the rows of a call whose keys begin so; None takes a column away."""
    above, below = f"{kind}|", f"{kind}}}"
    query = f"PartitionKey eq '{shard_of(call_id):02}' and RowKey gt '{above}' and RowKey lt '{below}'"
    rows = [row async for row in table.query_entities(query) if call_id in row["RowKey"]]
    assert rows
    for row in rows:
        kept = {name: value for name, value in (row | columns).items() if value is not None}
        await table.update_entity(kept, mode=UpdateMode.REPLACE)


async def listed(app: App, query: str = "", headers: dict[str, str] = KEY) -> tuple[dict[str, Any], list[JsonValue]]:
    """All calls of a list by id, and the ids of those that cannot be read."""
    found, unreadable, continuation = dict[str, Any](), list[JsonValue](), ""
    while True:
        page: Any = await app.asked("GET", f"calls?limit=100&{query}{continuation}", headers=headers)
        found |= {call["id"]: call for call in page["value"]}
        unreadable += page["unreadable"]
        if page["continuation"] is None:
            return found, unreadable
        continuation = f"&continuation={page['continuation']}"


async def test_damaged_metadata_is_shown_as_unreadable_and_the_call_goes_on(app: App, table: TableClient) -> None:
    damaged, other = await app.register(metadata={"queue": "support"}), await app.register()
    await damage(table, damaged, metadata="{")
    calls, _ = await listed(app, f"tenantId={app.tenant}")
    assert (calls[damaged]["metadata"], calls[damaged]["unreadable"]) == ({}, ["metadata"])
    assert calls[other]["unreadable"] == []
    await app.notify(about_call(damaged, state="established"), about_call(other, state="established"))
    await app.register(damaged, expect=200, metadata={"more": "words"})
    call = await app.asked("GET", f"calls/{damaged}")
    assert (call["state"], call["metadata"], call["unreadable"]) == ("established", {}, ["metadata"])
    await app.notify(about_call(damaged, "deleted", state="terminated", resultInfo={"code": 200, "subcode": 5010}))
    calls, _ = await listed(app, f"status=ended&tenantId={app.tenant}")
    assert (calls[damaged]["termination"]["subcode"], calls[damaged]["unreadable"]) == (5010, ["metadata"])
    for key in (f"ended|{damaged}",):
        row = await table.get_entity(f"{shard_of(damaged):02}", key)
        assert row["metadata"] == "{"


async def test_a_call_without_a_tenant_is_named_in_the_list_and_refused_by_name(app: App, table: TableClient) -> None:
    lost, other = await app.register(), await app.register()
    await damage(table, lost, tenantId=None, lease=None)
    calls, unreadable = await listed(app)
    assert other in calls
    assert lost not in calls
    assert lost in unreadable
    assert (await listed(app, f"tenantId={app.tenant}")) == ({other: calls[other]}, [])
    assert (await listed(app, f"tenantId={uuid4()}")) == ({}, [])
    for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/hangup"), ("POST", "/record")):
        problem = await app.asked(method, f"calls/{lost}{path}", expect=500)
        assert problem["type"] == "urn:call-keeper:problem:record-unreadable"
        assert "docs/runbook.md#row-unreadable" in str(problem["detail"])
    await damage(table, lost, tenantId=app.tenant)
    assert (await app.asked("GET", f"calls/{lost}"))["unreadable"] == []


async def test_a_bound_caller_gets_no_unreadable_ids(app: App, table: TableClient) -> None:
    lost = await app.register()
    await damage(table, lost, tenantId=None, lease=None)
    callers = f'{{"{uuid4()}": "all", "*": {{"tenants": ["{app.tenant}"]}}}}'
    settings = asking_for_tokens() | {"MANAGEMENT_CALLERS": callers}
    async with app.configured(**settings) as bound:  # type: ignore[arg-type] # settings alone
        headers = await bearer(bound, Role.READ)
        assert (await listed(bound, headers=headers)) == ({}, [])


async def test_a_row_of_one_call_holds_up_no_other_call_of_a_notification(app: App, table: TableClient) -> None:
    lost, other = await app.register(), await app.register()
    await damage(table, lost, tenantId=None, lease=None)
    both = [about_call(call_id, state="established") for call_id in (lost, other)]
    await app.notify(*both, expect=503)  # what is answered with 202 is stored
    assert (await app.asked("GET", f"calls/{other}"))["state"] == "established"
    await app.notify(both[1])


async def test_a_sweep_renews_each_damaged_call_that_has_a_tenant(app: App, table: TableClient) -> None:
    whole, damaged, no_tenant = [await app.register() for _ in range(3)]
    await damage(table, damaged, lease="{", startedAt="soon", state=None, metadata="{", failing="[")
    await damage(table, no_tenant, lease="{", tenantId=None)
    for shard in range(SHARDS):
        await change(table, shard, "active-watermark", sweepStartedAt="soon")
        await change(table, shard, "active-progress", startedAt=True, unwritten="{")
    await change(table, 0, "switch", due="soon")
    tally = await app.asked("POST", "keep-alive")
    assert (tally["handedOver"], tally["failing"]) == (0, 0)
    assert [await app.simulator.keep_alives(each) for each in (whole, damaged, no_tenant)] == [1, 1, 0]


async def test_the_end_of_a_damaged_call_is_written_as_of_any_other(app: App, table: TableClient) -> None:
    damaged = await app.register()
    await damage(table, damaged, lease="{", startedAt="soon", metadata="{")
    await app.simulator.fault(operation="keepAlive", status=404, callId=damaged)
    await app.ask("POST", "keep-alive", expect=200)
    call: Any = await app.asked("GET", f"calls/{damaged}")
    assert (call["status"], call["termination"]["source"]) == ("ended", "keepAliveNotFound")


async def test_an_event_or_an_operation_that_cannot_be_read_hides_no_other(app: App, table: TableClient) -> None:
    call_id = await app.register()
    await app.notify(about_call(call_id, state="established"))
    for number in range(2):
        await app.notify(about_operation(call_id, f"operation-{number}", status="running"))
    await damage(table, call_id, "event", detail="{")
    events: Any = (await app.asked("GET", f"calls/{call_id}/events"))["value"]
    assert len(events) >= 4
    assert all(event["detail"] == {"unreadable": "detail"} for event in events)
    await change(table, shard_of(call_id), f"operation|{call_id}|operation-1", code="abc", finishedAt="soon")
    await change(table, shard_of(call_id), f"operation|{call_id}|a|b", kind="recordOperation")
    operations: Any = (await app.asked("GET", f"calls/{call_id}/operations"))["value"]
    assert {each["id"]: each["unreadable"] for each in operations} == {
        "operation-0": [],
        "operation-1": ["finishedAt", "code"],
    }


async def test_a_key_whose_record_cannot_be_read_does_nothing_twice_and_others_go_on(
    app: App, table: TableClient
) -> None:
    call_id = await app.register()
    one, other = (KEY | {"Idempotency-Key": f'"{name}"'} for name in ("one", "other"))
    await app.ask("POST", f"calls/{call_id}/record", {}, expect=202, headers=one)
    await damage(table, call_id, "idempotency", answered='{"status": "new"}')
    problem = await app.asked("POST", f"calls/{call_id}/record", {}, expect=500, headers=one)
    assert problem["type"] == "urn:call-keeper:problem:record-unreadable"
    await app.ask("POST", f"calls/{call_id}/record", {}, expect=202, headers=other)


async def test_a_damaged_seal_breaks_no_list(app: App, table: TableClient) -> None:
    for _ in range(2):
        await app.register()
    await change(table, 0, "seal", key="no hex")
    async with app.configured() as fresh:  # the signing key is read once a process
        page = await fresh.asked("GET", "calls?limit=1")
        assert page["continuation"] is not None
        await fresh.ask("GET", f"calls?limit=1&continuation={page['continuation']}", expect=200)


async def test_a_deployment_may_go_back_to_this_version_and_forward_again(app: App, table: TableClient) -> None:
    """Columns, members and words of a newer version are in each kind of row of a call that then lives and ends here."""
    call_id = await app.register()
    shard = shard_of(call_id)
    await app.notify(about_call(call_id, state="established"), about_operation(call_id, "prompt", status="running"))
    active = await table.get_entity(f"{shard:02}", f"active|{call_id}")
    lease = str(active["lease"])[:-1] + ', "priority": 5}'
    await damage(
        table,
        call_id,
        region="weu",
        rowVersion=9,
        plan=EntityProperty(2**40, EdmType.INT64),
        state="onHold",
        lease=lease,
    )
    await damage(table, call_id, "operation", quality="hd", status="paused")
    await damage(table, call_id, "event", weight=3)

    await app.ask("POST", "keep-alive", expect=200)
    await app.notify(about_call(call_id, state="hold"), about_operation(call_id, "prompt", status="completed"))
    active = await table.get_entity(f"{shard:02}", f"active|{call_id}")
    assert (active["region"], active["rowVersion"], '"priority": 5' in active["lease"]) == ("weu", 9, True)
    await app.notify(about_call(call_id, "deleted", state="terminated", resultInfo={"code": 200, "subcode": 5010}))

    end = {"source": "bySignal", "reason": "New words.", "category": "byBot", "faultOwner": "bot"}
    for kind in ("ended", "recent"):
        await damage(table, call_id, kind, termination=str(end).replace("'", '"'))
    shown: Any = await app.asked("GET", f"calls/{call_id}")
    assert shown["termination"]["reason"] == "New words."
    assert (shown["termination"]["source"], shown["unreadable"]) == ("unknown", ["termination"])
    await app.notify(about_call(call_id, "deleted", state="terminated", resultInfo={"code": 500, "subcode": 1}))

    rows = [row async for row in table.query_entities(f"PartitionKey eq '{shard:02}'") if call_id in row["RowKey"]]
    calls = [row for row in rows if row["RowKey"].startswith(("ended|", "recent|"))]
    assert [row["RowKey"].partition("|")[0] for row in calls] == ["ended", "recent"]
    for row in calls:
        assert (row["region"], row["rowVersion"], row["plan"]) == ("weu", 9, active["plan"])
        assert "faultOwner" in row["termination"]
        assert "lease" not in row
    (operation,) = [row for row in rows if row["RowKey"].startswith("operation|")]
    assert (operation["quality"], operation["status"]) == ("hd", "completed")
    assert [row["weight"] for row in rows if row["RowKey"].startswith("event|") and "weight" in row]


async def test_a_tenant_that_only_the_lease_names_is_written_anew(app: App, table: TableClient) -> None:
    call_id = await app.register()
    await damage(table, call_id, tenantId=None)
    assert (await app.asked("GET", f"calls/{call_id}"))["tenantId"] == app.tenant
    await app.notify(about_call(call_id, "deleted", state="terminated"))
    call = await app.asked("GET", f"calls/{call_id}")
    assert (call["tenantId"], call["status"], call["unreadable"]) == (app.tenant, "ended", [])


async def test_rows_that_cannot_be_read_are_purged_as_others(app: App, table: TableClient) -> None:
    call_id = await app.register()
    await app.notify(about_call(call_id, "deleted", state="terminated"))
    for kind in ("ended", "recent", "event"):
        await damage(table, call_id, kind, tenantId=None, endedAt=None, detail="{")
    assert await app.parts.store.purge(shard_of(call_id), datetime.now(UTC) + timedelta(days=1), 10) == 1
    left = [row async for row in table.query_entities(f"PartitionKey eq '{shard_of(call_id):02}'")]
    assert [row["RowKey"] for row in left if call_id in row["RowKey"]] == []
