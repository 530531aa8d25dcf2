"""The store of deliveries as operators see it: lists, searches, and deliveries that become pending again.

Over Table Storage (on Azurite) and over the table in memory.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from azure.data.tables.aio import TableClient

from shared.domain.deliveries import (
    Delivery,
    DeliveryStatus,
    Destination,
    Lane,
    LaneKey,
    delivery_id,
    sequence_at,
)
from shared.domain.scopes import UNRESTRICTED, Scope
from shared.errors import InvalidRequest, StoreConflict
from shared.storage.azure_table import CLIENT_OPTIONS, AzureTable
from shared.storage.delivery_codec import Barrier
from shared.storage.delivery_writes import create_delivery
from shared.storage.outbox import MAX_STORING_TIME, OutboxStore
from shared.storage.rows import shard_of
from shared.storage.stored import Stored
from shared.storage.table import MAX_BINARY_LENGTH
from tests.support.deliveries import APP, BOT, make_delivery, store_deliveries
from tests.support.stores import NOW, SECOND, TENANT, YieldingTable

OTHER_BOT = Destination("bot", "instance-2")
OTHER_APP = "0d9f3c52-7b1a-4e86-9c40-6a2e8f5d1b37"
DEAD, DELIVERED, DISABLED, PENDING = (
    *(DeliveryStatus.DEAD, DeliveryStatus.DELIVERED),
    *(DeliveryStatus.DISABLED, DeliveryStatus.PENDING),
)


@pytest.fixture(params=["memory", "table"])
async def outbox(request: pytest.FixtureRequest) -> AsyncIterator[OutboxStore]:
    if request.param == "memory":
        yield OutboxStore(YieldingTable())
        return
    connection: str = request.getfixturevalue("azurite")
    client = TableClient.from_connection_string(connection, f"calls{uuid4().hex}", **CLIENT_OPTIONS)
    async with client:
        yield OutboxStore(AzureTable(client))


async def read(outbox: OutboxStore, delivery: Delivery) -> Stored[Delivery]:
    stored = await outbox.get(delivery.call_id, delivery.sequence)
    assert stored is not None
    return stored


async def reopen(outbox: OutboxStore, delivery: Delivery, now: datetime = NOW) -> Delivery:
    stored = await read(outbox, delivery)
    return await outbox.reopen(stored, replace(stored.value, status=PENDING, retry_since=now, is_replay=True), now)


async def listed(outbox: OutboxStore, status: DeliveryStatus, scope: Scope = UNRESTRICTED, limit: int = 2) -> list[str]:
    """Return the ids of all pages of a list."""
    ids: list[str] = []
    continuation: str | None = None
    while True:
        page = await outbox.list_page(status, scope, limit=limit, continuation=continuation)
        assert len(page.records) <= limit
        ids += [each.id for each in page.records]
        continuation = page.continuation
        if continuation is None:
            return ids


def ids_of(deliveries: Sequence[Delivery]) -> list[str]:
    return [each.id for each in deliveries]


@pytest.mark.parametrize("status", DeliveryStatus)
async def test_a_delivery_is_found_by_its_id_whatever_its_status(outbox: OutboxStore, status: DeliveryStatus) -> None:
    delivery, other = make_delivery(status=status), make_delivery("other", status=status)
    await store_deliveries(outbox, delivery, other)
    found = await outbox.find(delivery.id)
    assert found is not None
    assert found.value == delivery


async def test_ids_of_no_delivery_are_not_found(outbox: OutboxStore) -> None:
    delivery = make_delivery()
    await store_deliveries(outbox, delivery)
    for unknown in (
        "",
        "x",
        delivery.id[:-1],
        delivery.id[:-8] + "00000000",
        "99" + delivery.id[2:],
        f"{delivery.id}|",
    ):
        assert await outbox.find(unknown) is None


async def test_the_deliveries_of_a_call_are_in_order_and_have_no_bodies(outbox: OutboxStore) -> None:
    later, first = make_delivery(at=NOW + SECOND), make_delivery()
    shared = make_delivery("another", "call", at=NOW + 2 * SECOND, status=PENDING)
    await store_deliveries(outbox, later, first, shared, make_delivery("call-2"))
    found = await outbox.list_of_call("call")
    assert found[:2] == [replace(each, body=None) for each in (first, later)]
    assert ids_of(found) == ids_of([first, later, shared])


async def test_a_call_with_bodies_as_large_as_rows_is_listed_without_reading_them(outbox: OutboxStore) -> None:
    body = bytes(range(256)) * (MAX_BINARY_LENGTH // 256)
    deliveries = [replace(make_delivery(at=NOW + SECOND * number), body=body) for number in range(3)]
    await store_deliveries(outbox, *deliveries)
    assert [each.body for each in await outbox.list_of_call("call")] == [None] * 3


async def test_a_delivery_about_many_calls_is_listed_whole(outbox: OutboxStore) -> None:
    """The ids of 1,000 calls take three columns: 39 characters each in 16,384 of one."""
    delivery = make_delivery(*(str(uuid4()) for _ in range(1_000)))
    await outbox._table.write(shard_of(delivery.call_id), create_delivery(delivery))
    assert await outbox.list_of_call(delivery.call_id) == [replace(delivery, body=None)]


async def test_a_list_by_status_is_newest_first_over_all_shards_page_by_page(outbox: OutboxStore) -> None:
    deliveries = [make_delivery(f"call-{number}", at=NOW + SECOND * number) for number in range(5)]
    await store_deliveries(outbox, *deliveries, make_delivery("pending", status=PENDING))
    assert await listed(outbox, DEAD) == ids_of(deliveries)[::-1]
    assert await listed(outbox, DELIVERED) == []


@pytest.mark.parametrize(
    "scope",
    [
        Scope(frozenset({TENANT})),
        Scope(apps=frozenset({OTHER_APP})),
        Scope(apps=frozenset({None, OTHER_APP})),
        Scope(frozenset({TENANT}), frozenset({OTHER_APP})),
    ],
    ids=["tenant", "app", "app with calls that have none", "both"],
)
async def test_a_list_has_only_what_is_within_the_scope(outbox: OutboxStore, scope: Scope) -> None:
    tenants, apps = (TENANT, str(uuid4())), (APP, OTHER_APP, None)
    deliveries = [
        replace(make_delivery(f"call-{tenant}-{app}", tenant=tenant), app_id=app) for tenant in tenants for app in apps
    ]
    await store_deliveries(outbox, *deliveries)
    expected = {each.id for each in deliveries if scope.covers_tenant(each.tenant_id) and scope.covers_app(each.app_id)}
    assert set(await listed(outbox, DEAD, scope)) == expected
    assert 0 < len(expected) < len(deliveries)


async def test_a_continuation_is_only_for_its_list(outbox: OutboxStore) -> None:
    await store_deliveries(outbox, make_delivery(), make_delivery("other"))
    page = await outbox.list_page(DEAD, UNRESTRICTED, limit=1)
    assert page.continuation is not None
    for status, scope in ((DISABLED, UNRESTRICTED), (DEAD, Scope(frozenset({TENANT})))):
        with pytest.raises(InvalidRequest):
            await outbox.list_page(status, scope, limit=1, continuation=page.continuation)


async def test_a_span_has_its_ends_and_goes_by_the_receipt_not_by_the_storing(outbox: OutboxStore) -> None:
    span = [make_delivery(f"call-{number}", at=NOW + SECOND * number) for number in range(5)]
    slow = make_delivery("slow", at=NOW + SECOND * 2)
    sequence = sequence_at(slow.received_at + MAX_STORING_TIME)
    slow = replace(slow, sequence=sequence, id=delivery_id(shard_of("slow"), sequence, "0a1b2c3d"))
    elsewhere = make_delivery("elsewhere", at=NOW + SECOND, to=Destination("other", None))
    await store_deliveries(outbox, *span, slow, elsewhere, make_delivery("pending", at=NOW + SECOND, status=PENDING))
    found = [each.id async for each in outbox.scan_of_target(DEAD, "bot", NOW + SECOND, NOW + SECOND * 3)]
    assert set(found) == set(ids_of([*span[1:4], slow]))


@pytest.mark.parametrize(
    ("first", "last", "count"),
    [
        pytest.param(None, None, 1, id="no span"),
        pytest.param(datetime(2000, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), 1, id="all times"),
        pytest.param(datetime(1, 1, 2, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC), 0, id="before all"),
        pytest.param(datetime(2500, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), 0, id="after all"),
    ],
)
async def test_a_span_may_be_far_away(
    outbox: OutboxStore, first: datetime | None, last: datetime | None, count: int
) -> None:
    await store_deliveries(outbox, make_delivery())
    assert len([each async for each in outbox.scan_of_target(DEAD, "bot", first, last)]) == count


async def test_a_reopened_delivery_is_pending_and_opens_its_lane(outbox: OutboxStore) -> None:
    delivery, now = make_delivery(), NOW + timedelta(days=2)
    await store_deliveries(outbox, delivery)
    reopened = await reopen(outbox, delivery, now)
    expected = replace(delivery, status=PENDING, retry_since=now, next_attempt_at=now, is_replay=True)
    assert reopened == (await read(outbox, delivery)).value == expected
    assert (await listed(outbox, DEAD), await listed(outbox, PENDING)) == ([], [delivery.id])
    lane = await outbox.get_lane(delivery.lane)
    assert lane is not None
    assert lane.value == Lane(delivery.lane, next_attempt_at=now, oldest_received_at=now)
    assert [entry.value for entry in await outbox.pending_of_lane(delivery.lane)] == [expected]


async def test_a_delivery_reopened_behind_others_waits_and_the_lane_is_attempted_now(outbox: OutboxStore) -> None:
    failing, dead = make_delivery(), make_delivery(at=NOW + SECOND)
    await store_deliveries(outbox, failing, dead)
    await reopen(outbox, failing)
    lane = await outbox.get_lane(failing.lane)
    assert lane is not None
    lane = await outbox.put_lane(lane, replace(lane.value, next_attempt_at=NOW + timedelta(minutes=15)))
    assert (await reopen(outbox, dead, NOW + SECOND)).next_attempt_at is None
    joined = await outbox.get_lane(failing.lane)
    assert joined is not None
    assert (joined.value.next_attempt_at, joined.value.appended) == (NOW + SECOND, 1)
    with pytest.raises(StoreConflict):  # the worker of the lane sees that a delivery was added
        await outbox.delete_lane(lane)


async def test_the_first_of_a_lane_has_the_time_of_its_next_attempt(outbox: OutboxStore) -> None:
    first, second = make_delivery(at=NOW + SECOND), make_delivery(at=NOW + 2 * SECOND)
    elsewhere = make_delivery(status=PENDING, to=OTHER_BOT)
    await store_deliveries(outbox, first, second, elsewhere)
    assert await outbox.next_attempt(first.lane) is None
    for each in (first, second):
        await reopen(outbox, each)
    assert await outbox.next_attempt(first.lane) == (first.sequence, NOW)
    lane = await outbox.get_lane(first.lane)
    assert lane is not None
    await outbox.put_lane(lane, replace(lane.value, claim_id="worker", next_attempt_at=None))
    assert await outbox.next_attempt(first.lane) == (first.sequence, None)
    assert await outbox.next_attempt(elsewhere.lane) == (elsewhere.sequence, None)


async def test_a_lane_that_is_being_worked_on_keeps_its_claim(outbox: OutboxStore) -> None:
    first, second = make_delivery(), make_delivery(at=NOW + SECOND)
    await store_deliveries(outbox, first, second)
    await reopen(outbox, first)
    lane = await outbox.get_lane(first.lane)
    assert lane is not None
    claimed = replace(lane.value, claim_id="worker", claimed_until=NOW + SECOND, next_attempt_at=None)
    await outbox.put_lane(lane, claimed)
    await reopen(outbox, second)
    found = await outbox.get_lane(first.lane)
    assert found is not None
    assert found.value == replace(claimed, appended=1)


async def test_a_delivery_that_was_written_meanwhile_is_not_reopened(outbox: OutboxStore) -> None:
    delivery = make_delivery()
    await store_deliveries(outbox, delivery)
    stale = await read(outbox, delivery)
    await outbox.save(stale, replace(delivery, body=None))
    with pytest.raises(StoreConflict):
        await outbox.reopen(stale, replace(delivery, status=PENDING), NOW)
    assert await outbox.get_lane(delivery.lane) is None
    assert await listed(outbox, DEAD) == [delivery.id]


async def test_a_reopened_delivery_about_several_calls_holds_back_all_of_them(outbox: OutboxStore) -> None:
    delivery = make_delivery("first", "second")
    await store_deliveries(outbox, delivery)
    await reopen(outbox, delivery)
    (barrier,) = await outbox.pending_of_lane(LaneKey("second", BOT))
    assert barrier.value == Barrier("second", "first", delivery.sequence, BOT)
    assert await outbox.get_lane(LaneKey("second", BOT)) is not None


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        pytest.param([make_delivery(at=NOW + SECOND, status=DELIVERED)], True, id="delivered"),
        pytest.param(
            [replace(make_delivery(at=NOW + SECOND, status=DELIVERED), wants_answer=True)], False, id="a question"
        ),
        pytest.param([make_delivery(at=NOW + SECOND)], False, id="dead"),
        pytest.param([make_delivery(at=NOW - SECOND, status=DELIVERED)], False, id="before it"),
        pytest.param([make_delivery(at=NOW + SECOND, status=DELIVERED, to=OTHER_BOT)], False, id="another instance"),
        pytest.param([make_delivery("x", at=NOW + SECOND, status=DELIVERED)], False, id="another call"),
        pytest.param([make_delivery("second", at=NOW + SECOND, status=DELIVERED)], True, id="its second call"),
        pytest.param([make_delivery("x", "second", at=NOW + SECOND, status=DELIVERED)], True, id="with another call"),
        pytest.param([make_delivery("x", "second", at=NOW + SECOND)], False, id="dead with another call"),
    ],
)
async def test_a_later_delivery_that_was_delivered_is_found(
    outbox: OutboxStore, later: list[Delivery], expected: bool
) -> None:
    delivery = make_delivery("call", "second")
    await store_deliveries(outbox, delivery, *later)
    assert await outbox.has_delivered_after(delivery) is expected
