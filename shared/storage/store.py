"""The store of calls: all its logic, over a `Table`. Graph has no list of calls, so this is the only one."""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from datetime import datetime
from itertools import batched
from typing import Protocol

from shared.domain.calls import Call, Event, IdempotencyRecord, Operation, Status
from shared.domain.deliveries import Delivery, DeliveryStatus, Lane, LaneKey
from shared.domain.leases import Lease, Progress, WatchdogState, Watermark
from shared.domain.scopes import UNRESTRICTED, Scope
from shared.errors import StoreConflict, StoreUnavailable
from shared.storage import row_codec, rows
from shared.storage.changes import Change, Committed, Outgoing, new_events, new_lane, plan_writes
from shared.storage.delivery_codec import to_lane
from shared.storage.paging import Page, list_page, matching_scope
from shared.storage.row_codec import to_row
from shared.storage.rows import SHARDS, shard_of
from shared.storage.stored import Stored
from shared.storage.table import (
    MAX_PAGE_ROWS,
    MAX_TRANSACTION_ROWS,
    Create,
    Delete,
    KeyRange,
    Put,
    Replace,
    Row,
    Table,
    TableRow,
)

__all__ = ["SHARDS", "CallStore", "Change", "ChangePlanner", "Page", "Stored", "retry_conflicts", "shard_of", "update"]

MAX_WRITE_ATTEMPTS = 24  # each conflict means that another writer succeeded, so 24 suffice for 24 concurrent writers
MAX_EXPIRED_KEYS = 5 * MAX_PAGE_ROWS  # keys of expired calls that one purge reads, to find the oldest
_LIST_PREFIXES = {Status.ACTIVE: "active", Status.ENDED: "recent"}
PAIR = 2  # rows of a delivery: itself and its copy
_SIGNING_KEY_BYTES = 32  # for HMAC-SHA-256


class ChangePlanner(Protocol):
    """Adds deliveries to the changes of calls, so that every writer of a call publishes its events."""

    async def plan(self, store: "CallStore", change: Change) -> Change:
        """Return the change with the deliveries that it causes. It is called again if the write has a conflict."""
        ...

    async def announce(self, committed: Committed, *, is_claimed: bool) -> None:
        """Report deliveries that are on record. Ask the queue to attempt them, unless the writer does. Never fail."""
        ...


class CallStore:
    """The records of calls and of sweeps. Every method but `close` may raise `StoreUnavailable`.

    Parameters
    ----------
    planner
        Adds deliveries to each change. None: the relay is off.
    """

    _planner: ChangePlanner | None = None

    def __init__(self, table: Table, planner: ChangePlanner | None = None) -> None:
        self._table = table
        self._planner = planner

    async def close(self) -> None:
        """Close the connections of the table."""
        await self._table.close()

    async def get(self, call_id: str) -> Stored[Call] | None:
        """Return a call, active or ended. It is looked for in this order, so that a call that ends meanwhile is found.

        Raises
        ------
        RowUnreadable
            The tenant cannot be read, or the end of an ended call.
        """
        for key in (rows.active_key(call_id), rows.ended_key(call_id)):
            if row := await self._table.read(shard_of(call_id), key):
                return Stored(row_codec.to_call(row.columns), row.etag, row.columns)
        return None

    async def get_operation(self, call_id: str, operation_id: str) -> Stored[Operation] | None:
        """Return one operation of a call."""
        row = await self._table.read(shard_of(call_id), rows.operation_key(call_id, operation_id))
        return Stored(row_codec.to_operation(row.columns), row.etag, row.columns) if row else None

    async def commit(self, change: Change) -> Committed:
        """Write a change with its deliveries, all or nothing. Events that are on record already keep their first time.

        If the write fails, read back whether the change is on record all the same. The storage client repeats a write
        whose answer is lost, and then its own first write is the conflict. If the caller merged once more, it would
        take its own write for that of another: a new call for an old one, a new end for one that was reported.

        Returns
        -------
        Committed
            The deliveries of the change. If it has no claim on their lanes, the queue makes the first attempts.

        Raises
        ------
        StoreConflict
            Something was written since it was read: read, merge and write again.
        StoreUnavailable
            The store did not answer, and the change is not on record, or that cannot be read.
        """
        if self._planner is None:
            return await self._commit(change)
        planned = await self._planner.plan(self, change)
        committed = await self._commit(planned)
        if committed.deliveries:
            await self._planner.announce(committed, is_claimed=planned.outgoing.claim is not None)
        return committed

    async def _commit(self, change: Change) -> Committed:
        try:
            return await self._write_change(change)
        except (StoreConflict, StoreUnavailable):
            if not await self._is_committed(change):
                raise
        return await self._read_back(change.outgoing)

    async def scan(self, shard: int) -> AsyncGenerator[Progress | Stored[Watermark] | Lease]:
        """Yield what a sweep of a shard reads: its progress and its watermark, if they exist, then its leases."""
        scan = self._table.pages(shard, rows.sweep_range(), select=row_codec.SWEEP_COLUMNS)
        async with aclosing(scan) as pages:
            async for page in pages:
                for row in page:
                    if found := _scan_record(row):
                        yield found

    async def list_calls(
        self,
        status: Status,
        scope: Scope = UNRESTRICTED,
        *,
        limit: int = 100,
        continuation: str | None = None,
    ) -> Page[Call]:
        """Return a page of the calls of all shards within the scope: active ones by id, ended ones newest first.

        Raises
        ------
        InvalidRequest
            The continuation is not one of ours.
        """

        async def fetch(shard: int, key_range: KeyRange, limit: int) -> list[tuple[str, Call | None]]:
            found: list[tuple[str, Call | None]] = []
            size = MAX_PAGE_ROWS if None in (scope.apps or ()) else limit
            async with aclosing(
                self._table.pages(shard, key_range, size=size, matching=matching_scope(scope))
            ) as pages:
                async for page in pages:
                    calls = ((row.key, row_codec.readable_call(row.columns)) for row in page)
                    # If a call cannot be read, its tenant is unknown: only callers of all calls see its id.
                    found += (
                        (key, call) for key, call in calls if (scope.contains(call) if call else scope.is_unrestricted)
                    )
                    if len(found) >= limit:
                        break
            return found[:limit]

        return await list_page(fetch, _LIST_PREFIXES[status], scope, limit, continuation)

    async def list_events(self, call_id: str) -> list[Event]:
        """Return the event log of a call, oldest first."""
        found = await self._rows(shard_of(call_id), rows.prefix_range(f"event|{call_id}"))
        events = (row_codec.to_event(row.columns) for row in found)
        return sorted(events, key=lambda event: (event.at, event.digest))

    async def list_operations(self, call_id: str) -> list[Operation]:
        """Return the operations of a call, oldest first."""
        found = await self._rows(shard_of(call_id), rows.prefix_range(f"operation|{call_id}"))
        operations = filter(None, (row_codec.readable_operation(row.columns) for row in found))
        return sorted(operations, key=lambda operation: (operation.known_at, operation.id))

    async def get_watermark(self, shard: int) -> Watermark | None:
        """Return the watermark of a shard, or None if it was never swept."""
        return _watermark(await self._table.read(shard, rows.WATERMARK_ROW))

    async def put_watermark(self, shard: int, watermark: Watermark, etag: str | None = None) -> None:
        """Store that the shard was swept. Of two sweeps the one that began last wins, whichever writes first.

        Parameters
        ----------
        etag
            ETag of the watermark that the scan found: that one is replaced, whatever it says. If the row has changed
            since, or none was found, the rule holds.
        """
        cells, found = to_row(watermark), etag

        async def attempt() -> None:
            nonlocal found
            write = Replace(rows.WATERMARK_ROW, cells, found) if found else Create(rows.WATERMARK_ROW, cells)
            try:
                await self._table.write(shard, [write])
            except StoreConflict:
                row = await self._table.read(shard, rows.WATERMARK_ROW)
                stored = _watermark(row)
                if stored is None or stored.sweep_started_at <= watermark.sweep_started_at:
                    found = row.etag if row else None
                    raise

        await retry_conflicts(attempt, f"The watermark of shard {shard}")

    async def put_progress(self, shard: int, progress: Progress) -> None:
        """Store how far a sweep came."""
        await self._table.write(shard, [Put(rows.PROGRESS_ROW, to_row(progress))])

    async def get_watchdog_state(self) -> WatchdogState | None:
        """Return the state of the watchdog, or None if none was ever armed."""
        return _read_or_none(row_codec.to_watchdog_state, await self._table.read(0, rows.WATCHDOG_ROW))

    async def put_watchdog_state(self, state: WatchdogState) -> None:
        """Store the state of the watchdog. Earlier watchdog messages are then leftovers."""
        await self._table.write(0, [Put(rows.WATCHDOG_ROW, to_row(state))])

    async def get_idempotency_record(self, call_id: str, name: str) -> Stored[IdempotencyRecord] | None:
        """Return the request that has this `Idempotency-Key`. Raises `RowUnreadable`."""
        row = await self._table.read(shard_of(call_id), rows.idempotency_record_key(call_id, name))
        return Stored(row_codec.to_idempotency_record(row.columns), row.etag) if row else None

    async def claim_idempotency_key(
        self, call_id: str, name: str, request: IdempotencyRecord, before: Stored[IdempotencyRecord] | None
    ) -> None:
        """Take the key for a request, if its row is still as it was read. Raises `StoreConflict`."""
        key, cells = rows.idempotency_record_key(call_id, name), to_row(request)
        write = Replace(key, cells, before.etag) if before else Create(key, cells)
        await self._table.write(shard_of(call_id), [write])

    async def settle_idempotency_key(
        self, call_id: str, name: str, claimed: Stored[IdempotencyRecord], request: IdempotencyRecord | None
    ) -> None:
        """Store the outcome of the request that claimed the key, or release the key if it is None.

        Raises
        ------
        StoreConflict
            The row has changed since the key was claimed.
        """
        key = rows.idempotency_record_key(call_id, name)
        write = Replace(key, to_row(request), claimed.etag) if request else Delete(key, claimed.etag)
        await self._table.write(shard_of(call_id), [write])

    async def get_continuation_key(self) -> bytes:
        """Return the secret key that signs continuations, the same in all instances. It is created on first use.

        A key that cannot be read is replaced. Continuations that were signed with it are refused then.

        Raises
        ------
        StoreUnavailable
            The row exists and cannot be read, although it was just written.
        """
        row = await self._table.read(0, rows.SIGNING_KEY_ROW)
        if key := _signing_key(row):
            return key
        cells = to_row(secrets.token_bytes(_SIGNING_KEY_BYTES))
        with suppress(StoreConflict):  # another instance was faster: its key counts
            write = Replace(rows.SIGNING_KEY_ROW, cells, row.etag) if row else Create(rows.SIGNING_KEY_ROW, cells)
            await self._table.write(0, [write])
        if key := _signing_key(await self._table.read(0, rows.SIGNING_KEY_ROW)):
            return key
        raise StoreUnavailable(f"The row {rows.SIGNING_KEY_ROW} of shard 00 cannot be read.")

    async def purge(self, shard: int, ended_before: datetime, limit: int) -> int:
        """Delete up to `limit` calls that ended before a moment, the oldest first. Return how many were deleted."""
        keys = await self._keys(shard, rows.ended_before_range(ended_before), limit=MAX_EXPIRED_KEYS)
        oldest = deque(keys, maxlen=limit)
        return sum([await self._purge_call(shard, key) for key in reversed(oldest)])

    async def _purge_call(self, shard: int, recent_key: str) -> bool:
        """Delete all rows of a call. Return False if it must wait for the next purge.

        The row with its state is deleted last, so that the next purge finds what a crash leaves. If a late notification
        is written meanwhile, which the ETag shows, the call stays until the next purge.
        """
        call_id = rows.id_of_key(recent_key)
        first, ended = rows.first_event_key(call_id), await self._table.read(shard, rows.ended_key(call_id))
        events = await self._keys(shard, rows.prefix_range(f"event|{call_id}"))
        keys: list[str] = []
        if ended and ended.columns.get("relaySequence") is not None:  # without the relay this costs no request
            lanes = await self._keys(shard, rows.prefix_range(f"lane|{call_id}"))
            if lanes and self._planner:  # something is pending, for 24 hours at most
                return False
            keys = [*await self._delivery_keys(shard, call_id), *lanes]
        keys += events
        for kind in ("operation", "idempotency"):
            keys += await self._keys(shard, rows.prefix_range(f"{kind}|{call_id}"))
        last = [Delete(recent_key)]
        if first in events:
            last.append(Delete(first))
        if ended:
            last.append(Delete(ended.key, ended.etag))
        try:
            for batch in batched((key for key in keys if key != first), MAX_TRANSACTION_ROWS, strict=False):
                await self._table.write(shard, [Delete(key) for key in batch])
            await self._table.write(shard, last)
        except StoreConflict:
            return False
        return True

    async def _write_change(self, change: Change) -> Committed:
        """Write a change. If the call changed, its events are most likely new: read them only after a conflict.

        Likewise the lanes of its deliveries most likely do not exist: they do only while deliveries are pending.
        """
        existing = frozenset[str]() if change.has_news else await self._existing_events(change)
        try:
            return await self._write(change, existing, {})
        except StoreConflict:
            found = await self._existing_events(change) if change.has_news and change.before else existing
            lanes = await self._existing_lanes(change)
            if found == existing and not lanes:
                raise
            return await self._write(change, found, lanes)

    async def _write(
        self, change: Change, existing: frozenset[str], lanes: Mapping[LaneKey, Stored[Lane]]
    ) -> Committed:
        writes = plan_writes(change, existing, lanes)
        if not writes:
            return Committed()
        etags = await self._table.write(shard_of(change.after.id), writes)
        if not change.outgoing:
            return Committed()
        by_key = dict(zip((write.key for write in writes), etags, strict=True))
        outgoing = change.outgoing
        return Committed(
            tuple(Stored(each, by_key[rows.delivery_key(each.call_id, each.sequence)]) for each in outgoing.deliveries),
            {
                key: Stored(new_lane(key, outgoing), by_key[rows.lane_key(key)])
                for key in outgoing.lanes
                if key not in lanes
            },
            tuple(lane.value for lane in lanes.values()),
        )

    async def _read_back(self, outgoing: Outgoing) -> Committed:
        """Return the deliveries of a change whose answer was lost, with their ETags and those of their lanes."""
        claim_id = outgoing.claim.id if outgoing.claim else None
        deliveries: list[Stored[Delivery]] = []
        for each in outgoing.deliveries:
            row = await self._table.read(shard_of(each.call_id), rows.delivery_key(each.call_id, each.sequence))
            deliveries.append(Stored(each, row.etag if row else ""))
        opened: dict[LaneKey, Stored[Lane]] = {}
        appended: list[Lane] = []
        for key in outgoing.lanes:
            if row := await self._table.read(shard_of(key.call_id), rows.lane_key(key)):
                lane = Stored(to_lane(row.columns), row.etag)
                if lane.value.claim_id == claim_id:
                    opened[key] = lane
                else:
                    appended.append(lane.value)
        return Committed(tuple(deliveries), opened, tuple(appended))

    async def _is_committed(self, change: Change) -> bool:
        """True if a change is on record. The random id of a delivery proves it for the whole transaction."""
        for delivery in change.outgoing.deliveries[:1]:
            key = rows.delivery_key(delivery.call_id, delivery.sequence)
            row = await self._table.read(shard_of(delivery.call_id), key)
            return row is not None and row.columns.get("deliveryId") == delivery.id
        if not change.changes_call and not change.operations:
            return False  # only events are new: to write them once more does no harm
        if change.changes_call:
            stored = await self.get(change.after.id)
            if stored is None or stored.value != change.after:
                return False
        for _, operation in change.operations:
            written = await self.get_operation(operation.call_id, operation.id)
            if written is None or written.value != operation:
                return False
        # Another writer may have written the same call with other events.
        return await self._existing_events(change) == new_events(change).keys()

    async def _existing_lanes(self, change: Change) -> dict[LaneKey, Stored[Lane]]:
        """Return those lanes of a change that have pending deliveries already."""
        shard, keys = shard_of(change.after.id), change.outgoing.lanes
        found = await asyncio.gather(*(self._table.read(shard, rows.lane_key(key)) for key in keys))
        return {key: Stored(to_lane(row.columns), row.etag) for key, row in zip(keys, found, strict=True) if row}

    async def _existing_events(self, change: Change) -> frozenset[str]:
        """Return the keys of those events of a change that are on record already."""
        shard = shard_of(change.after.id)
        found = await asyncio.gather(*(self._table.read(shard, key) for key in new_events(change)))
        return frozenset(row.key for row in found if row)

    async def _keys(self, shard: int, key_range: KeyRange, limit: int | None = None) -> list[str]:
        return [row.key for row in await self._rows(shard, key_range, limit=limit, select=("RowKey",))]

    async def _delivery_keys(self, shard: int, call_id: str) -> list[str]:
        """Return the keys of all rows of a call's deliveries.

        Each delivery is beside its copy, and these pairs come first. So both are in one transaction of an even number
        of rows: after a crash in between, nothing would find a copy whose delivery is deleted.
        """
        found = await self._rows(
            shard, rows.prefix_range(f"delivery|{call_id}"), select=("RowKey", "status", "barrierOf")
        )
        pairs: list[str] = []
        others = [row.key for row in found if row.columns.get("barrierOf") is not None]
        for row in found:
            if row.columns.get("barrierOf") is None:
                mine = [row.key, *await self._copy_keys(shard, row, call_id)]
                (pairs if len(mine) == PAIR else others).extend(mine)
        return pairs + others

    async def _copy_keys(self, shard: int, row: TableRow, call_id: str) -> list[str]:
        """Return the key of the copy of a delivery. If its status cannot be read, look for a copy with each status."""
        sequence = int(rows.id_of_key(row.key))
        try:
            return [rows.delivery_status_key(DeliveryStatus(str(row.columns.get("status"))), sequence, call_id)]
        except ValueError:
            keys = [rows.delivery_status_key(status, sequence, call_id) for status in DeliveryStatus]
            return [key for key in keys if await self._table.read(shard, key)]

    async def _rows(
        self, shard: int, key_range: KeyRange, *, limit: int | None = None, select: tuple[str, ...] | None = None
    ) -> list[TableRow]:
        """Return the rows of a range, the first `limit` of them."""
        found: list[TableRow] = []
        async with aclosing(self._table.pages(shard, key_range, size=limit or MAX_PAGE_ROWS, select=select)) as pages:
            async for page in pages:
                found += page
                if limit is not None and len(found) >= limit:
                    break
        return found[:limit]


type Decide = Callable[[Call | None], tuple[Call, tuple[Event, ...]] | None]


async def update(store: CallStore, call_id: str, decide: Decide) -> Call | None:
    """Read a call, let `decide` change it, and write it. Repeat this if another writer wrote in between.

    Parameters
    ----------
    decide
        Gets the call on record, or None. Returns the call to write and the events to add, or None to change nothing.
        It must be pure, because it may be called several times.

    Returns
    -------
    The call as it is on record now.

    Raises
    ------
    StoreUnavailable
        The store did not answer, or there were too many conflicts.
    """

    async def attempt() -> Call | None:
        before = await store.get(call_id)
        current = before.value if before else None
        decision = decide(current)
        if decision is None:
            return current
        after, events = decision
        await store.commit(Change(before, after, events))
        return after

    return await retry_conflicts(attempt, f"Call {call_id}")


async def retry_conflicts[T](attempt: Callable[[], Awaitable[T]], what: str) -> T:
    """Call `attempt`, which reads, merges and writes, until it has no conflict.

    Raises
    ------
    StoreUnavailable
        There were too many conflicts. `what` names the record in the message.
    """
    for _ in range(MAX_WRITE_ATTEMPTS):
        with suppress(StoreConflict):
            return await attempt()
    raise StoreUnavailable(f"{what} is being written by too many at once. Try again.")


def _scan_record(row: TableRow) -> Progress | Stored[Watermark] | Lease | None:
    match row.key:
        case rows.PROGRESS_ROW:
            return _read_or_none(row_codec.to_progress, row)
        case rows.WATERMARK_ROW:
            watermark = _watermark(row)
            return Stored(watermark, row.etag) if watermark else None
    return row_codec.readable_lease(row.columns)


def _watermark(row: TableRow | None) -> Watermark | None:
    return _read_or_none(row_codec.to_watermark, row)


def _signing_key(row: TableRow | None) -> bytes | None:
    return _read_or_none(row_codec.to_signing_key, row)


def _read_or_none[T](read: Callable[[Row], T], row: TableRow | None) -> T | None:
    return row_codec.read_or_none(read, row.columns if row else None)
