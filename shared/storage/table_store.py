"""Calls in Table Storage. Their keys and transactions are those of `rows`, their columns those of `entities`."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress
from datetime import datetime
from itertools import batched

from azure.data.tables import TableEntity
from azure.data.tables.aio import TableClient

from shared.domain.calls import Call, Event, IdempotencyRecord, Operation, Status
from shared.domain.leases import Lease, Progress, WatchdogState, Watermark
from shared.domain.scopes import UNRESTRICTED, Scope
from shared.errors import StoreConflict, StoreUnavailable
from shared.storage import entities, rows
from shared.storage.paging import list_page
from shared.storage.rows import Create, Delete, KeyRange, Put, Replace
from shared.storage.store import Change, Page, Stored, retry_conflicts, shard_of
from shared.storage.table import MAX_PAGE_ROWS, Table, etag_of

MAX_EXPIRED_KEYS = 5 * MAX_PAGE_ROWS  # keys of expired calls that one purge looks at, to find the oldest


class TableCallStore:
    """A `CallStore` on Table Storage (or Azurite). The table is made when it is first used.

    Parameters
    ----------
    client
        Of the table, made with `table.CLIENT_OPTIONS`. `close` closes it.
    """

    def __init__(self, client: TableClient) -> None:
        self._table = Table(client)

    async def close(self) -> None:
        """Close the connections."""
        await self._table.close()

    async def get(self, call_id: str) -> Stored[Call] | None:
        """The record of a call, active or ended: asked in this order, a call that ends meanwhile is found.

        Raises
        ------
        RowUnreadable
            Not even the tenant can be read, or, of an ended call, when it ended.
        """
        for key in (rows.active_key(call_id), rows.ended_key(call_id)):
            if row := await self._table.read(shard_of(call_id), key):
                return Stored(entities.to_call(row), etag_of(row), row)
        return None

    async def get_operation(self, call_id: str, operation_id: str) -> Stored[Operation] | None:
        """One operation of a call."""
        row = await self._table.read(shard_of(call_id), rows.operation_key(call_id, operation_id))
        return Stored(entities.to_operation(row), etag_of(row), row) if row else None

    async def commit(self, change: Change) -> None:
        """Write a change, all or nothing. Raises `StoreConflict`.

        What changes a call is news nearly always: whether its events are there is asked only when they were refused.
        """
        shard, events = shard_of(change.after.id), rows.new_events(change)
        is_news = change.before is None or change.before.value != change.after
        existing = frozenset[str]() if is_news else await self._existing(shard, events)
        try:
            await self._write(change, existing)
        except StoreConflict:
            existing = await self._existing(shard, events) if is_news and change.before else frozenset()
            if not existing:
                raise
            await self._write(change, existing)

    async def scan(self, shard: int) -> AsyncGenerator[Progress | Stored[Watermark] | Lease]:
        """All that a sweep of a shard reads, page by page: progress, watermark, leases."""
        async for page in self._table.pages(shard, rows.sweep_range(), select=entities.SWEEP_COLUMNS):
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
    ) -> Page:
        """Calls of all shards: active ones by id, ended ones newest first."""

        async def fetch(shard: int, key_range: KeyRange, limit: int) -> list[tuple[str, Call | None]]:
            found: list[tuple[str, Call | None]] = []
            size = MAX_PAGE_ROWS if None in (scope.apps or ()) else limit
            async with aclosing(self._table.pages(shard, key_range, size=size, matching=_scope_filter(scope))) as pages:
                async for page in pages:
                    calls = ((row["RowKey"], entities.readable_call(row)) for row in page)
                    # Whose call it is cannot be read: only who may see all calls is told of it.
                    found += (
                        (key, call) for key, call in calls if (scope.contains(call) if call else scope.is_unrestricted)
                    )
                    if len(found) >= limit:
                        break
            return found[:limit]

        return await list_page(fetch, status, scope, limit, continuation)

    async def list_events(self, call_id: str) -> list[Event]:
        """The story of a call, oldest first."""
        found = await self._table.rows(shard_of(call_id), rows.prefix_range(f"event|{call_id}"))
        return sorted(map(entities.to_event, found), key=lambda event: (event.at, event.digest))

    async def list_operations(self, call_id: str) -> list[Operation]:
        """The operations of a call, oldest first."""
        found = await self._table.rows(shard_of(call_id), rows.prefix_range(f"operation|{call_id}"))
        operations = filter(None, map(entities.readable_operation, found))
        return sorted(operations, key=lambda operation: (operation.known_at, operation.id))

    async def get_watermark(self, shard: int) -> Watermark | None:
        """When the shard was last swept."""
        return entities.read_or_none(entities.to_watermark, await self._table.read(shard, rows.WATERMARK_ROW))

    async def put_watermark(self, shard: int, watermark: Watermark, etag: str | None = None) -> None:
        """Note that the shard was swept. Of two sweeps the one that began last stands."""
        found = etag

        async def attempt() -> None:
            nonlocal found
            write = Replace(rows.WATERMARK_ROW, watermark, found) if found else Create(rows.WATERMARK_ROW, watermark)
            try:
                await self._table.write(shard, [write])
            except StoreConflict:
                row = await self._table.read(shard, rows.WATERMARK_ROW)
                there = entities.read_or_none(entities.to_watermark, row)
                if there is None or there.sweep_started_at <= watermark.sweep_started_at:
                    found = etag_of(row) if row else None
                    raise

        await retry_conflicts(attempt, f"The watermark of shard {shard}")

    async def put_progress(self, shard: int, progress: Progress) -> None:
        """Note how far a sweep came."""
        await self._table.write(shard, [Put(rows.PROGRESS_ROW, progress)])

    async def get_watchdog_state(self) -> WatchdogState | None:
        """The last dead man's switch that was left."""
        return entities.read_or_none(entities.to_watchdog_state, await self._table.read(0, rows.WATCHDOG_ROW))

    async def put_watchdog_state(self, state: WatchdogState) -> None:
        """Note that a dead man's switch was left."""
        await self._table.write(0, [Put(rows.WATCHDOG_ROW, state)])

    async def get_idempotency_record(self, call_id: str, name: str) -> Stored[IdempotencyRecord] | None:
        """The request that had this `Idempotency-Key`. Raises `RowUnreadable`."""
        row = await self._table.read(shard_of(call_id), rows.idempotency_record_key(call_id, name))
        return Stored(entities.to_idempotency_record(row), etag_of(row)) if row else None

    async def claim_idempotency_key(
        self, call_id: str, name: str, request: IdempotencyRecord, before: Stored[IdempotencyRecord] | None
    ) -> None:
        """Take the key for a request, if it is as it was read. Raises `StoreConflict`."""
        key = rows.idempotency_record_key(call_id, name)
        write = Replace(key, request, before.etag) if before else Create(key, request)
        await self._table.write(shard_of(call_id), [write])

    async def settle_idempotency_key(
        self, call_id: str, name: str, claimed: Stored[IdempotencyRecord], request: IdempotencyRecord | None
    ) -> None:
        """Write down what became of the request that claimed the key; None: give it back. Raises `StoreConflict`."""
        key = rows.idempotency_record_key(call_id, name)
        write = Replace(key, request, claimed.etag) if request else Delete(key, claimed.etag)
        await self._table.write(shard_of(call_id), [write])

    async def get_continuation_key(self) -> bytes:
        """A key that nobody outside knows, the same for all instances: made when it is first asked for.

        One that cannot be read is replaced: the continuations that were given out before are refused then.

        Raises
        ------
        StoreUnavailable
            It is there, and cannot be read, though it was just made.
        """
        row = await self._table.read(0, rows.CONTINUATION_KEY_ROW)
        if secret := entities.read_or_none(entities.to_continuation_key, row):
            return secret
        new = rows.new_continuation_key()
        with suppress(StoreConflict):  # another instance was quicker: its key counts
            await self._table.write(
                0,
                [
                    Replace(rows.CONTINUATION_KEY_ROW, new, etag_of(row))
                    if row
                    else Create(rows.CONTINUATION_KEY_ROW, new)
                ],
            )
        if secret := entities.read_or_none(
            entities.to_continuation_key, await self._table.read(0, rows.CONTINUATION_KEY_ROW)
        ):
            return secret
        raise StoreUnavailable(f"The row {rows.CONTINUATION_KEY_ROW} of shard 00 cannot be read.")

    async def purge(self, shard: int, ended_before: datetime, limit: int) -> int:
        """Delete up to `limit` calls that ended before that time, the oldest first. How many it were."""
        keys = await self._keys(shard, rows.ended_before_range(ended_before), limit=MAX_EXPIRED_KEYS)
        oldest = deque(keys, maxlen=limit)
        return sum([await self._purge_call(shard, key) for key in reversed(oldest)])

    async def _purge_call(self, shard: int, recent_key: str) -> bool:
        """Delete all rows of a call; whether it was done. Its state goes last: what a crash leaves is found again.

        If a late notification writes meanwhile, which the ETag tells, the call stays until the next purge.
        """
        call_id = rows.id_of_key(recent_key)
        first, ended = rows.first_event_key(call_id), await self._table.read(shard, rows.ended_key(call_id))
        events = await self._keys(shard, rows.prefix_range(f"event|{call_id}"))
        keys = list(events)
        for kind in ("operation", "idempotency"):
            keys += await self._keys(shard, rows.prefix_range(f"{kind}|{call_id}"))
        last = [Delete(recent_key)]
        if first in events:
            last.append(Delete(first))
        if ended:
            last.append(Delete(ended["RowKey"], etag_of(ended)))
        try:
            for batch in batched((key for key in keys if key != first), rows.MAX_TRANSACTION_ROWS, strict=False):
                await self._table.write(shard, [Delete(key) for key in batch])
            await self._table.write(shard, last)
        except StoreConflict:
            return False
        return True

    async def _write(self, change: Change, existing: frozenset[str]) -> None:
        if writes := rows.plan_writes(change, existing):
            await self._table.write(shard_of(change.after.id), writes)

    async def _existing(self, shard: int, keys: Iterable[str]) -> frozenset[str]:
        """Those of the keys that have a row."""
        found = await asyncio.gather(*(self._table.read(shard, key) for key in keys))
        return frozenset(row["RowKey"] for row in found if row)

    async def _keys(self, shard: int, key_range: KeyRange, limit: int | None = None) -> list[str]:
        return [row["RowKey"] for row in await self._table.rows(shard, key_range, limit=limit, select=("RowKey",))]


def _scope_filter(scope: Scope) -> dict[str, list[str]]:
    """What of a scope Table Storage can tell. Whether a row has no app it cannot: then those of other apps come too."""
    ids_by_column = {"tenantId": scope.tenants, "appId": scope.apps}
    return {
        column: sorted(map(str, ids)) for column, ids in ids_by_column.items() if ids is not None and None not in ids
    }


def _scan_record(row: TableEntity) -> Progress | Stored[Watermark] | Lease | None:
    match row["RowKey"]:
        case rows.PROGRESS_ROW:
            return entities.read_or_none(entities.to_progress, row)
        case rows.WATERMARK_ROW:
            watermark = entities.read_or_none(entities.to_watermark, row)
            return Stored(watermark, etag_of(row)) if watermark else None
    return entities.readable_lease(row)
