"""The store of the relay on `MemoryTable` and on Azurite: bodies of any size, damaged rows, lanes, lists, purges."""

import gzip
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from unittest.mock import patch
from uuid import uuid4

import pytest
from azure.data.tables.aio import TableClient
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.deliveries import (
    Attempt,
    Delivery,
    DeliveryStatus,
    Destination,
    DestinationState,
    Lane,
    LaneKey,
    delivery_id,
)
from shared.domain.scopes import UNRESTRICTED, Scope
from shared.errors import StoreConflict, StoreUnavailable
from shared.storage import delivery_codec as codec
from shared.storage import rows
from shared.storage.azure_table import CLIENT_OPTIONS, AzureTable
from shared.storage.changes import Claim, Outgoing
from shared.storage.delivery_codec import MAX_BODY_COLUMNS, Barrier, pack_body
from shared.storage.memory_table import MemoryTable
from shared.storage.outbox import MAX_LANE_BATCH, MAX_LANE_BYTES, OutboxStore, is_full
from shared.storage.rows import shard_of
from shared.storage.store import CallStore, Change
from shared.storage.stored import Stored
from shared.storage.table import MAX_BINARY_LENGTH, MAX_TRANSACTION_ROWS, Delete, KeyRange, Put, Table, Write
from tests.support.stores import NOW, SECOND, TENANT, ended, make_call

HERE, THERE = Destination("bot", "here"), Destination("bot", "there")
ALL = KeyRange("", "~")
HEX = "0123456789abcdef"  # random hex digits pack to about half their size


@pytest.fixture(params=["memory", "azure"])
async def table(request: pytest.FixtureRequest) -> AsyncIterator[Table]:
    if request.param == "memory":
        yield MemoryTable()
        return
    connection: str = request.getfixturevalue("azurite")
    async with TableClient.from_connection_string(connection, f"calls{uuid4().hex}", **CLIENT_OPTIONS) as client:
        yield AzureTable(client)


def a_delivery(sequence: int = 1, call_id: str = "call", destination: Destination = HERE, **more: object) -> Delivery:
    new_id = delivery_id(shard_of(call_id), sequence, "0123abcd")
    delivery = Delivery(
        *(new_id, (call_id,), sequence, destination, "notification", TENANT, "app", NOW, NOW), body=b"{}"
    )
    return replace(delivery, **more)  # type: ignore[arg-type] # fields of a delivery


async def add(table: Table, *deliveries: Delivery, barriers: tuple[Barrier, ...] = ()) -> list[Stored[Delivery]]:
    """Write deliveries of one call, in one change of it."""
    store = CallStore(table)
    call_id = deliveries[0].call_id if deliveries else barriers[0].call_id
    before = await store.get(call_id)
    sequence = max([each.sequence for each in deliveries] + [each.sequence for each in barriers])
    after = replace(before.value if before else make_call(call_id), relay_sequence=sequence)
    outgoing = Outgoing(deliveries, barriers, Claim("worker", NOW), NOW)
    return list((await store.commit(Change(before, after, outgoing=outgoing))).deliveries)


async def read(table: Table, delivery: Delivery) -> Stored[Delivery]:
    stored = await OutboxStore(table).get(delivery.call_id, delivery.sequence)
    assert stored is not None
    return stored


async def keys(table: Table, *kinds: str) -> list[str]:
    found = [row.key for shard in range(rows.SHARDS) async for page in table.pages(shard, ALL) for row in page]
    return [key for key in found if not kinds or key.startswith(kinds)]


class TestBodies:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{}",
            b'\xef\xbb\xbf{"value": []}',
            '{"value": ["é\u2028\U0001f600"]}'.encode(),
            b"\x00\xff" * 1_000,
            b"a" * (4 * 1024 * 1024),
            "".join(Random(1).choices(HEX, k=2 * MAX_BINARY_LENGTH + 100)).encode(),
            "".join(Random(1).choices(HEX, k=1_500_000)).encode(),
        ],
        ids=["empty", "small", "UTF-8 BOM", "not ASCII", "any bytes", "4 MiB of one letter", "two columns", "large"],
    )
    @pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # of aiohttp, by the SDK, from 1 MiB
    async def test_a_body_comes_back_as_it_was(self, table: Table, body: bytes) -> None:
        delivery = a_delivery(body=body)
        await add(table, delivery)
        assert (await read(table, delivery)).value == delivery

    def test_the_largest_body_fills_all_columns_and_one_byte_more_is_too_large(self) -> None:
        limit = MAX_BODY_COLUMNS * MAX_BINARY_LENGTH
        noise = Random(1).randbytes(limit)
        overhead = len(gzip.compress(noise, codec.COMPRESSION_LEVEL, mtime=0)) - limit
        assert overhead < codec.MAX_GZIP_OVERHEAD
        packed = pack_body(noise[: limit - overhead])
        assert packed
        assert limit - 200 < len(packed) <= limit
        assert pack_body(noise) is None
        cells = codec.delivery_cells(a_delivery(body=noise[: limit - overhead]))
        names = [name for name in cells if name.startswith("body")]
        assert names == ["body", *(f"body{number}" for number in range(2, MAX_BODY_COLUMNS + 1))]
        # Table Storage: a row has 1 MiB at most. The other columns are short texts, but for 20 attempts and 5 headers.
        assert limit + 128 * 1024 <= 1024 * 1024

    async def test_copies_in_lists_have_no_body(self, table: Table) -> None:
        await add(table, a_delivery(body=b'"secret"'))
        page = await OutboxStore(table).list_page(DeliveryStatus.PENDING, UNRESTRICTED, limit=10)
        assert [each.body for each in page.records] == [None]

    async def test_old_bodies_of_dead_and_disabled_deliveries_are_deleted(self, table: Table) -> None:
        outbox, statuses = OutboxStore(table), (DeliveryStatus.DEAD, DeliveryStatus.DISABLED, DeliveryStatus.PENDING)
        microseconds = rows._MICROSECOND
        first = (NOW - datetime(1970, 1, 1, tzinfo=UTC)) // microseconds
        deliveries = [a_delivery(first + number, status=status) for number, status in enumerate(statuses)]
        later = a_delivery(first + 10, status=DeliveryStatus.DEAD)
        await add(table, *deliveries, later)
        until = NOW + 5 * microseconds
        assert await outbox.delete_old_bodies(shard_of("call"), until, 1) == 1
        assert await outbox.delete_old_bodies(shard_of("call"), until, 10) == 1
        assert await outbox.delete_old_bodies(shard_of("call"), until, 10) == 0
        bodies = [(await read(table, each)).value.body for each in (*deliveries, later)]
        assert bodies == [None, None, b"{}", b"{}"]


class TestCodec:
    @given(
        st.builds(
            a_delivery,
            sequence=st.integers(0, 10**16 - 1),
            status=st.sampled_from(DeliveryStatus),
            destination=st.sampled_from([HERE, Destination("bot", None)]),
            attempts=st.lists(
                st.builds(
                    Attempt,
                    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 (the bounds of `datetimes` are naive)
                    st.none() | st.integers(100, 999),
                    st.none() | st.text(st.characters(codec="utf-8"), max_size=20),
                    st.timedeltas(timedelta(), timedelta(seconds=15)),
                ),
                max_size=3,
            ).map(tuple),
            headers=st.dictionaries(st.text("ab-", min_size=1), st.text("cd"), max_size=3),
            call_ids=st.just(("call",)) | st.just(("call", "other")),
            is_replay=st.booleans(),
            wants_answer=st.booleans(),
            body=st.none() | st.binary(max_size=50),
            next_attempt_at=st.none() | st.just(NOW),
            delivered_at=st.none() | st.just(NOW),
        )
    )
    def test_a_delivery_survives_its_row(self, delivery: Delivery) -> None:
        row = {"RowKey": rows.delivery_key("call", delivery.sequence), **codec.delivery_cells(delivery)}
        assert codec.to_delivery(row) == delivery
        copy = {"RowKey": "x", **codec.delivery_copy_cells(delivery)}
        assert codec.to_delivery(copy) == replace(delivery, body=None)

    @pytest.mark.parametrize("to", [None, "instance"], ids=["one instance", "several"])
    def test_a_lane_and_a_destination_survive_their_rows(self, to: str | None) -> None:
        destination = Destination("bot", to)
        lane = Lane(LaneKey("call", destination), "claim", NOW, NOW + SECOND, NOW, 7)
        assert codec.to_lane({"RowKey": rows.lane_key(lane.key), **codec.lane_cells(lane)}) == lane
        state = DestinationState(destination, NOW, NOW, 3, NOW, NOW)
        row = {"RowKey": rows.destination_key(destination), **codec.destination_cells(state)}
        assert codec.to_destination_state(row) == state

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("body", b"no gzip"),
            ("body", gzip.compress(b"cut off" * 100)[:20]),
            ("status", "gone"),
            ("status", None),
            ("deliveryId", "no id"),
            ("callIds", "[]"),
            ("attempts", "{"),
            ("receivedAt", "yesterday"),
            ("target", None),
        ],
        ids=lambda value: str(value)[:12],
    )
    async def test_a_damaged_row_is_skipped_and_purged(
        self, table: Table, column: str, value: object, caplog: pytest.LogCaptureFixture
    ) -> None:
        damaged, sound = a_delivery(1), a_delivery(2)
        await add(table, damaged, sound)
        shard, key = shard_of("call"), rows.delivery_key("call", 1)
        cells = {name: each for name, each in codec.delivery_cells(damaged).items() if name != column}
        await table.write(shard, [Put(key, cells if value is None else {**cells, column: value})])
        outbox = OutboxStore(table)
        assert await outbox.get("call", 1) is None
        listed = [each.id for each in await outbox.list_of_call("call")]  # without bodies
        assert listed == ([damaged.id, sound.id] if column == "body" else [sound.id])
        entries = [entry.value for entry in await outbox.pending_of_lane(sound.lane)]
        assert [each.id for each in entries if isinstance(each, Delivery)] == [sound.id]
        assert "row" in caplog.text
        await purge(table)
        assert await keys(table, "delivery|", "pending|", "lane|") == []


class TestLanes:
    async def test_the_pending_deliveries_of_a_lane_come_in_order_with_bodies(self, table: Table) -> None:
        number = MAX_LANE_BATCH + 2
        statuses = [DeliveryStatus.DELIVERED if index % 7 == 3 else DeliveryStatus.PENDING for index in range(40)]
        here = [a_delivery(index + 1, status=status) for index, status in enumerate(statuses[:number])]
        await add(table, *here, a_delivery(100, destination=THERE), a_delivery(101, destination=Destination("b", None)))
        outbox = OutboxStore(table)
        found = [entry.value for entry in await outbox.pending_of_lane(here[0].lane)]
        pending = [each for each in here if each.status is DeliveryStatus.PENDING]
        assert found[:MAX_LANE_BATCH] == pending[:MAX_LANE_BATCH]
        below = [entry.value for entry in await outbox.pending_of_lane(here[0].lane, below=3)]
        assert below == pending[:2]

    async def test_a_lane_to_which_something_was_added_is_not_deleted(self, table: Table) -> None:
        outbox = OutboxStore(table)
        (first,) = await add(table, a_delivery(1))
        lane = await outbox.get_lane(first.value.lane)
        assert lane
        await add(table, a_delivery(2))
        done = replace(first.value, status=DeliveryStatus.DELIVERED, body=None)
        with pytest.raises(StoreConflict):
            await outbox.save(first, done, (lane, None))
        with pytest.raises(StoreConflict):
            await outbox.delete_lane(lane)
        found = await outbox.get_lane(first.value.lane)
        assert found
        assert (found.value.appended, found.value.claim_id) == (1, "worker")
        assert (await read(table, first.value)).value == first.value  # the transaction wrote nothing

    async def test_deliveries_of_one_change_in_one_lane_open_it_once(self, table: Table) -> None:
        await add(table, a_delivery(1), a_delivery(2), a_delivery(3, destination=THERE))
        assert len(await keys(table, "lane|")) == 2
        await add(table, a_delivery(4), a_delivery(5))
        lane = await OutboxStore(table).get_lane(LaneKey("call", HERE))
        assert lane
        assert lane.value.appended == 1

    async def test_a_result_moves_the_copy(self, table: Table) -> None:
        outbox = OutboxStore(table)
        (first,) = await add(table, a_delivery(1))
        lane = await outbox.get_lane(first.value.lane)
        assert lane
        done = replace(first.value, status=DeliveryStatus.DELIVERED, delivered_at=NOW, body=None)
        await outbox.save(first, done, (lane, None))
        assert await outbox.get_lane(first.value.lane) is None
        assert len(await keys(table, "delivered|")) == 1
        assert await keys(table, "pending|") == []
        found = await outbox.find(done.id)
        assert found
        assert found.value == done
        assert await outbox.find("00-0000000000000001-ffffffff") is None
        assert await outbox.find("no id") is None

    async def test_a_place_in_the_lane_of_another_call_overwrites_nothing(self, table: Table) -> None:
        own = a_delivery(7)
        await add(table, own)
        await add(table, barriers=(Barrier("call", "other", 7, HERE), Barrier("call", "third", 7, HERE)))
        entries = [entry.value for entry in await OutboxStore(table).pending_of_lane(own.lane)]
        assert entries == [own, Barrier("call", "other", 7, HERE), Barrier("call", "third", 7, HERE)]


class TestLists:
    async def test_a_status_is_listed_newest_first_within_the_scope(self, table: Table) -> None:
        mine = [a_delivery(number, call_id=f"call-{number}") for number in range(1, 6)]
        for each in mine:
            await add(table, each)
        await add(table, a_delivery(9, call_id="foreign", tenant_id="another"))
        outbox, scope = OutboxStore(table), Scope(tenants=frozenset({TENANT}))
        page = await outbox.list_page(DeliveryStatus.PENDING, scope, limit=3)
        rest = await outbox.list_page(DeliveryStatus.PENDING, scope, limit=3, continuation=page.continuation)
        assert [each.sequence for each in (*page.records, *rest.records)] == [5, 4, 3, 2, 1]

    async def test_a_delivery_about_several_calls_is_listed_for_each(self, table: Table) -> None:
        both = a_delivery(5, call_ids=("call", "other"))
        await add(table, both)
        await add(table, barriers=(Barrier("other", "call", 5, HERE),))
        outbox = OutboxStore(table)
        assert await outbox.list_of_call("other") == await outbox.list_of_call("call") == [replace(both, body=None)]

    async def test_a_later_delivered_one_is_seen_for_each_call(self, table: Table) -> None:
        dead = a_delivery(5, call_ids=("call", "other"), status=DeliveryStatus.DEAD)
        await add(table, dead)
        outbox = OutboxStore(table)
        for later in (
            a_delivery(6, call_id="other", status=DeliveryStatus.DEAD),
            a_delivery(7, call_id="other", destination=THERE, status=DeliveryStatus.DELIVERED),
            a_delivery(4, call_id="other", status=DeliveryStatus.DELIVERED),
        ):
            await add(table, later)
            assert not await outbox.has_delivered_after(dead)
        await add(table, a_delivery(8, call_id="other", status=DeliveryStatus.DELIVERED))
        assert await outbox.has_delivered_after(dead)


async def purge(table: Table) -> None:
    """End the call, and purge it."""
    store = CallStore(table)
    before = await store.get("call")
    assert before
    await store.commit(Change(before, ended(before.value)))
    assert await store.purge(shard_of("call"), NOW + SECOND, 10) == 1


async def test_a_purge_deletes_all_rows_of_a_calls_deliveries(table: Table) -> None:
    deliveries = [a_delivery(number, status=status) for number, status in enumerate(DeliveryStatus, 1)]
    await add(table, *deliveries, a_delivery(10, destination=THERE), barriers=(Barrier("call", "other", 11, HERE),))
    await add(table, a_delivery(1, call_id="stays"))
    assert len(await keys(table, "delivery|call|")) == len(DeliveryStatus) + 2
    await purge(table)
    left = await keys(table)
    assert [key for key in left if "|call" in key] == []
    assert [key for key in left if "stays" in key]


async def test_a_purge_that_breaks_off_leaves_no_copy_that_nothing_finds() -> None:
    """A copy is found by its delivery alone."""
    table = MemoryTable()
    for number in range(1, 71):  # 140 rows and their events: more than one transaction
        await add(table, a_delivery(number, status=DeliveryStatus.DELIVERED))
    with (
        patch.object(MemoryTable, "write", FailsSecondPurge(table).write),
        pytest.raises(StoreUnavailable),
    ):
        await purge(table)
    found = await keys(table, "delivery|", "delivered|")
    assert len(found) == 140 - MAX_TRANSACTION_ROWS
    assert await CallStore(table).purge(shard_of("call"), NOW + SECOND, 10) == 1
    assert await keys(table) == []


class FailsSecondPurge:
    """A write of `MemoryTable` that fails for the second transaction that only deletes."""

    def __init__(self, table: MemoryTable) -> None:
        self._write = table.write
        self._deletions = 0

    async def write(self, shard: int, writes: Sequence[Write]) -> tuple[str, ...]:
        self._deletions += all(isinstance(write, Delete) for write in writes)
        if self._deletions == 2:
            raise StoreUnavailable("Table Storage does not answer (test).")
        return await self._write(shard, writes)


async def test_a_lane_reads_large_bodies_in_parts() -> None:
    """Twenty rosters of megabytes, in each of many lanes at once, would fill the memory of a process."""
    table = MemoryTable()
    for number in range(1, 5):
        await add(table, a_delivery(number, body=bytes(MAX_LANE_BYTES // 2)))
    entries = await OutboxStore(table).pending_of_lane(LaneKey("call", HERE))
    assert [entry.value.sequence for entry in entries] == [1, 2]
    assert is_full(entries)
    assert not is_full(entries[:1])


async def test_a_change_that_is_read_back_is_proven_by_the_id_of_its_delivery() -> None:
    """Two writers make the same change of a call in the same microsecond: one of them has to write again."""
    table = MemoryTable()
    store = CallStore(table)
    await store.commit(Change(None, make_call()))
    before = await store.get("call")
    assert before

    def change(random: str) -> Change:
        delivery = a_delivery(5, id=delivery_id(shard_of("call"), 5, random))
        return Change(before, replace(before.value, relay_sequence=5), outgoing=Outgoing((delivery,)))

    await store.commit(change("00000001"))
    await store.commit(change("00000001"))  # the client repeats its write
    with pytest.raises(StoreConflict):
        await store.commit(change("00000002"))
