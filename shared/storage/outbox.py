"""The store of the relay: deliveries with their bodies, lanes, and states of destinations. All of it over a `Table`."""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta

from shared.domain.deliveries import (
    Delivery,
    DeliveryStatus,
    Destination,
    DestinationState,
    Lane,
    LaneKey,
    parse_delivery_id,
    sequence_at,
)
from shared.domain.scopes import Scope
from shared.errors import StoreConflict
from shared.storage import delivery_codec as codec
from shared.storage import rows
from shared.storage.delivery_codec import Barrier
from shared.storage.delivery_writes import append_to_lane, open_lane, put_barrier
from shared.storage.paging import Page, list_page, matching_scope
from shared.storage.rows import shard_of
from shared.storage.stored import Stored
from shared.storage.table import MAX_PAGE_ROWS, Create, Delete, KeyRange, Put, Replace, Table, TableRow, Write

MAX_LANE_BATCH = 20  # deliveries of a lane that are read at once: their bodies are in memory
MAX_LANE_BYTES = 4 * 1024 * 1024  # of those bodies: after the last one that fits no more are read
MAX_STORING_TIME = timedelta(minutes=5)  # after a receipt: the webhook gives up after 20 s, and clocks differ
_STORING_STEPS = MAX_STORING_TIME // timedelta(microseconds=1)

type LaneEntry = Stored[Delivery] | Stored[Barrier]


class OutboxStore:
    """The records of the relay. Every method may raise `StoreUnavailable`."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def get(self, call_id: str, sequence: int) -> Stored[Delivery] | None:
        """Return a delivery with its body, if the row is one and can be read."""
        row = await self._table.read(shard_of(call_id), rows.delivery_key(call_id, sequence))
        if row is None or codec.is_barrier(row.columns):
            return None
        delivery = codec.readable_delivery(row.columns)
        return Stored(delivery, row.etag) if delivery else None

    async def find(self, delivery_id: str) -> Stored[Delivery] | None:
        """Return the delivery with this id, with its body."""
        parsed = parse_delivery_id(delivery_id)
        if parsed is None:
            return None
        shard, sequence = parsed
        for status in (*DeliveryStatus, DeliveryStatus.PENDING):  # a replay may move it while the others are read
            key_range = rows.delivery_status_range(status, sequence)
            async for row in self._rows(shard, key_range):
                if row.columns.get("deliveryId") == delivery_id:
                    return await self.get(rows.id_of_key(row.key), sequence)
        return None

    async def list_of_call(self, call_id: str) -> list[Delivery]:
        """Return the deliveries of a call in their order, without bodies, also those about several calls."""
        found: list[Delivery] = []
        key_range = rows.prefix_range(f"delivery|{call_id}")
        async for row in self._rows(shard_of(call_id), key_range, select=codec.COLUMNS_WITHOUT_BODY):
            delivery = await self._resolve(row)
            if delivery is not None:
                found.append(delivery)
        return found

    async def list_page(
        self, status: DeliveryStatus, scope: Scope, *, limit: int, continuation: str | None = None
    ) -> Page[Delivery]:
        """Return a page of the deliveries of all shards with this status within the scope, newest first.

        Raises
        ------
        InvalidRequest
            The continuation is not one of this list.
        """

        async def fetch(shard: int, key_range: KeyRange, limit: int) -> list[tuple[str, Delivery | None]]:
            found: list[tuple[str, Delivery | None]] = []
            size = MAX_PAGE_ROWS if None in (scope.apps or ()) else limit
            scan = self._table.pages(shard, key_range, size=size, matching=matching_scope(scope))
            async with aclosing(scan) as pages:
                async for page in pages:
                    read = ((row.key, codec.readable_delivery(row.columns)) for row in page)
                    found += ((key, each) for key, each in read if each and is_within(scope, each))
                    if len(found) >= limit:
                        break
            return found[:limit]

        return await list_page(fetch, status.value, scope, limit, continuation)

    async def scan_of_target(
        self, status: DeliveryStatus, target: str, first: datetime | None = None, last: datetime | None = None
    ) -> AsyncGenerator[Delivery]:
        """Yield the deliveries to a target with this status, without bodies, newest first in each shard.

        `first` and `last`: only those that were received between these times, ends included.
        """
        # The key has the time at which a delivery was stored, which is some seconds after its receipt.
        lowest = 0 if first is None else max(sequence_at(first - MAX_STORING_TIME), 0)
        highest = rows.MAX_SEQUENCE if last is None else min(sequence_at(last) + _STORING_STEPS, rows.MAX_SEQUENCE)
        if lowest > highest:
            return
        key_range = rows.received_between_range(status, lowest, highest)
        for shard in range(rows.SHARDS):
            scan = self._table.pages(shard, key_range, matching={"target": [target]})
            async with aclosing(scan) as pages:
                async for page in pages:
                    for delivery in filter(None, (codec.readable_delivery(row.columns) for row in page)):
                        if (first is None or first <= delivery.received_at) and (
                            last is None or delivery.received_at <= last
                        ):
                            yield delivery

    async def get_lane(self, key: LaneKey) -> Stored[Lane] | None:
        """Return the state of a lane, or None if it has no pending delivery."""
        row = await self._table.read(shard_of(key.call_id), rows.lane_key(key))
        return _stored_lane(row) if row else None

    async def next_attempt(self, key: LaneKey) -> tuple[int, datetime | None] | None:
        """Return the sequence of the first pending delivery of a lane, and the time of its next attempt.

        Returns
        -------
        tuple[int, datetime | None] | None
            The time is None while a worker attempts it. None instead of the pair: nothing is pending.
        """
        lane, shard = await self.get_lane(key), shard_of(key.call_id)
        matching = {"status": [DeliveryStatus.PENDING.value], "target": [key.destination.target]}
        key_range = rows.prefix_range(f"delivery|{key.call_id}")
        scan = self._table.pages(shard, key_range, matching=matching, select=("RowKey", "to"))
        async with aclosing(scan) as pages:
            async for page in pages:
                for row in page:
                    if row.columns.get("to") == key.destination.to:
                        return rows.sequence_of_key(row.key), lane.value.next_attempt_at if lane else None
        return None

    async def scan_lanes(self, shard: int) -> AsyncGenerator[Stored[Lane]]:
        """Yield the lanes of a shard that have pending deliveries."""
        async for row in self._rows(shard, rows.prefix_range("lane")):
            yield _stored_lane(row)

    async def put_lane(self, before: Stored[Lane], after: Lane) -> Stored[Lane]:
        """Write a lane that must still be as it was read. Raises `StoreConflict`."""
        write = Replace(rows.lane_key(after.key), codec.lane_cells(after), before.etag)
        (etag,) = await self._table.write(shard_of(after.key.call_id), [write])
        return Stored(after, etag)

    async def delete_lane(self, lane: Stored[Lane]) -> None:
        """Delete a lane without pending deliveries. Raises `StoreConflict` if one was added since it was read."""
        key = lane.value.key
        await self._table.write(shard_of(key.call_id), [Delete(rows.lane_key(key), lane.etag)])

    async def pending_of_lane(self, key: LaneKey, *, below: int | None = None) -> list[LaneEntry]:
        """Return the first pending deliveries and barriers of a lane, in their order, with bodies.

        `below`: only those with a lower sequence.
        """
        shard = shard_of(key.call_id)
        key_range = rows.prefix_range(f"delivery|{key.call_id}")
        if below is not None:
            key_range = KeyRange(key_range.above, rows.delivery_key(key.call_id, below))
        matching = {"status": [DeliveryStatus.PENDING.value], "target": [key.destination.target]}
        found: list[LaneEntry] = []
        scan = self._table.pages(shard, key_range, size=MAX_LANE_BATCH, matching=matching)
        async with aclosing(scan) as pages:
            async for page in pages:
                for row in page:
                    if row.columns.get("to") == key.destination.to and (entry := _lane_entry(row)):
                        found.append(entry)
                    if is_full(found):
                        return found
        return found

    async def save(
        self, before: Stored[Delivery], after: Delivery, lane: tuple[Stored[Lane], Lane | None] | None = None
    ) -> tuple[Stored[Delivery], Stored[Lane] | None]:
        """Write a delivery, its copy in the list of its status, and its lane, in one transaction.

        Parameters
        ----------
        before
            The delivery as it was read or created.
        lane
            The lane as it was read, and as it is to be written: None deletes it. Without it, the lane stays as it is.

        Raises
        ------
        StoreConflict
            The delivery or its lane was written since it was read: for a lane, a delivery was added.
        """
        key, sequence = after.call_id, after.sequence
        old_copy = rows.delivery_status_key(before.value.status, sequence, key)
        new_copy = rows.delivery_status_key(after.status, sequence, key)
        copy = codec.delivery_copy_cells(after)
        writes: list[Write] = [Replace(rows.delivery_key(key, sequence), codec.delivery_cells(after), before.etag)]
        writes += [Put(new_copy, copy)] if new_copy == old_copy else [Delete(old_copy), Put(new_copy, copy)]
        if lane:
            writes.append(_lane_write(*lane))
        etags = await self._table.write(shard_of(key), writes)
        saved_lane = Stored(lane[1], etags[-1]) if lane and lane[1] else None
        return Stored(after, etags[0]), saved_lane

    async def reopen(self, before: Stored[Delivery], after: Delivery, now: datetime) -> Delivery:
        """Make a dead or disabled delivery pending again, and open its lane, with the lanes of its other calls.

        A lane that waits for a later attempt does not wait any more.

        Returns
        -------
        Delivery
            As it was written: without a time of the next attempt if other deliveries of its lane are pending.

        Raises
        ------
        StoreConflict
            The delivery or a lane was written since it was read: read it again.
        """
        for call_id in after.call_ids[1:]:
            barrier = Barrier(call_id, after.call_id, after.sequence, after.destination)
            await self._write_with_lane(LaneKey(call_id, after.destination), [put_barrier(barrier)], now)
        found = await self.get_lane(after.lane)
        after = replace(after, next_attempt_at=None if found else now)
        key, sequence = after.call_id, after.sequence
        writes: list[Write] = [
            Replace(rows.delivery_key(key, sequence), codec.delivery_cells(after), before.etag),
            Delete(rows.delivery_status_key(before.value.status, sequence, key)),
            Put(rows.delivery_status_key(after.status, sequence, key), codec.delivery_copy_cells(after)),
            _join_lane(found, after.lane, now),
        ]
        await self._table.write(shard_of(key), writes)
        return after

    async def close_barrier(
        self, barrier: Barrier, lane: tuple[Stored[Lane], Lane | None] | None
    ) -> Stored[Lane] | None:
        """Store that a delivery about several calls is done, for a call that is not its first, and write its lane.

        Raises
        ------
        StoreConflict
            The lane was written since it was read.
        """
        writes: list[Write] = [put_barrier(replace(barrier, is_open=False))]
        if lane:
            writes.append(_lane_write(*lane))
        etags = await self._table.write(shard_of(barrier.call_id), writes)
        return Stored(lane[1], etags[-1]) if lane and lane[1] else None

    async def has_delivered_after(self, delivery: Delivery) -> bool:
        """True if a later delivery of one of the same calls to the same destination was delivered.

        A notification that wants an answer does not count: it stands outside of the order.
        """
        for call_id in delivery.call_ids:
            above = rows.delivery_key(call_id, delivery.sequence)
            key_range = KeyRange(above, rows.prefix_range(f"delivery|{call_id}").below)
            async for row in self._rows(shard_of(call_id), key_range, DeliveryStatus.DELIVERED, delivery.destination):
                later = await self._resolve(row)
                if later and later.status is DeliveryStatus.DELIVERED and not later.wants_answer:
                    return True
        return False

    async def delete_old_bodies(self, shard: int, received_before: datetime, limit: int) -> int:
        """Delete the bodies of dead and disabled deliveries that were received before a time. Return their number."""
        deleted = 0
        for status in (DeliveryStatus.DEAD, DeliveryStatus.DISABLED):
            key_range = rows.received_between_range(status, 0, sequence_at(received_before))
            scan = self._table.pages(shard, key_range, size=limit, matching={codec.HAS_BODY: ["true"]})
            async with aclosing(scan) as pages:
                async for page in pages:
                    for row in page:
                        deleted += await self._delete_body(row)
                    if deleted >= limit:
                        return deleted
        return deleted

    async def get_destinations(self) -> dict[Destination, Stored[DestinationState]]:
        """Return the destinations in trouble."""
        found: dict[Destination, Stored[DestinationState]] = {}
        async for row in self._rows(0, rows.prefix_range("destination")):
            state = codec.to_destination_state(row.columns)
            found[state.destination] = Stored(state, row.etag)
        return found

    async def get_destination(self, destination: Destination) -> Stored[DestinationState] | None:
        """Return the state of a destination, or None if it has no trouble on record."""
        row = await self._table.read(0, rows.destination_key(destination))
        return Stored(codec.to_destination_state(row.columns), row.etag) if row else None

    async def put_destination(
        self, before: Stored[DestinationState] | None, after: DestinationState
    ) -> Stored[DestinationState]:
        """Write the state of a destination that must still be as it was read. Raises `StoreConflict`."""
        key, cells = rows.destination_key(after.destination), codec.destination_cells(after)
        write = Replace(key, cells, before.etag) if before else Create(key, cells)
        (etag,) = await self._table.write(0, [write])
        return Stored(after, etag)

    async def delete_destination(self, state: Stored[DestinationState]) -> None:
        """Delete the state of a destination that is well again. Raises `StoreConflict`."""
        await self._table.write(0, [Delete(rows.destination_key(state.value.destination), state.etag)])

    async def _delete_body(self, row: TableRow) -> bool:
        copy = codec.readable_delivery(row.columns)
        stored = await self.get(copy.call_id, copy.sequence) if copy else None
        if stored is None:
            return False
        try:
            await self.save(stored, replace(stored.value, body=None))
        except StoreConflict:  # it is being replayed
            return False
        return True

    async def _write_with_lane(self, key: LaneKey, writes: Sequence[Write], now: datetime) -> None:
        """Write rows of a lane, and create the lane or show its worker that a delivery was added."""
        found = await self.get_lane(key)
        await self._table.write(shard_of(key.call_id), [*writes, _join_lane(found, key, now)])

    async def _resolve(self, row: TableRow) -> Delivery | None:
        """Return the delivery of a row; for a barrier, the delivery that it stands for, without its body."""
        if not codec.is_barrier(row.columns):
            return codec.readable_delivery(row.columns)
        entry = _lane_entry(row)
        if entry is None or not isinstance(entry.value, Barrier):
            return None
        stored = await self.get(entry.value.primary_call_id, entry.value.sequence)
        return replace(stored.value, body=None) if stored else None

    async def _rows(
        self,
        shard: int,
        key_range: KeyRange,
        status: DeliveryStatus | None = None,
        destination: Destination | None = None,
        select: Collection[str] | None = None,
    ) -> AsyncGenerator[TableRow]:
        matching = {"status": [status.value]} if status else {}
        if destination:
            matching["target"] = [destination.target]
        scan = self._table.pages(shard, key_range, matching=matching or None, select=select)
        async with aclosing(scan) as pages:
            async for page in pages:
                for row in page:
                    if destination is None or row.columns.get("to") == destination.to:
                        yield row


def is_full(entries: Sequence[LaneEntry]) -> bool:
    """True if the lane may have more pending entries than these: no more were read at once."""
    bodies = (entry.value.body for entry in entries if isinstance(entry.value, Delivery))
    return len(entries) >= MAX_LANE_BATCH or sum(map(len, filter(None, bodies))) >= MAX_LANE_BYTES


def _lane_write(before: Stored[Lane], after: Lane | None) -> Write:
    key = rows.lane_key(before.value.key)
    return Replace(key, codec.lane_cells(after), before.etag) if after else Delete(key, before.etag)


def _join_lane(found: Stored[Lane] | None, key: LaneKey, now: datetime) -> Write:
    """Return the write of a lane that a reopened delivery joins: its next attempt is due now."""
    if found is None:
        return open_lane(Lane(key, next_attempt_at=now, oldest_received_at=now))
    waits_until = found.value.next_attempt_at
    lane = replace(found.value, next_attempt_at=min(waits_until, now) if waits_until else None)
    return append_to_lane(replace(found, value=lane))


def _stored_lane(row: TableRow) -> Stored[Lane]:
    return Stored(codec.to_lane(row.columns), row.etag)


def _lane_entry(row: TableRow) -> LaneEntry | None:
    if codec.is_barrier(row.columns):
        try:
            return Stored(codec.to_barrier(row.columns), row.etag)
        except ValueError:
            return None
    delivery = codec.readable_delivery(row.columns)
    return Stored(delivery, row.etag) if delivery else None


def is_within(scope: Scope, delivery: Delivery) -> bool:
    """True if the scope contains the delivery: all of its calls have one tenant and one app."""
    return scope.covers_tenant(delivery.tenant_id) and scope.covers_app(delivery.app_id)
