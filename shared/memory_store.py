"""Calls in memory, for proofs in virtual time: the rules of Table Storage without Table Storage."""

from bisect import bisect_left, bisect_right
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count, islice

from shared import rows
from shared.callers import UNRESTRICTED, Scope
from shared.calls import Call, Event, IdempotencyRecord, Operation, Status
from shared.errors import StoreConflict
from shared.leases import Lease, Progress, WatchdogState, Watermark
from shared.paging import list_page
from shared.rows import Create, Delete, Put, Record, Replace, Window, Write, order
from shared.store import SHARDS, Change, Page, Stored, shard_of


@dataclass(slots=True)
class _Shard:
    """A partition: rows by key, with a new ETag at each write, changed by transactions."""

    keys: list[str] = field(default_factory=list)  # sorted
    rows: dict[str, Stored[Record]] = field(default_factory=dict)
    etags: Iterator[int] = field(default_factory=count)

    def between(self, window: Window) -> list[str]:
        first = bisect_right(self.keys, order(window.above), key=order)
        return self.keys[first : bisect_left(self.keys, order(window.below), key=order)]

    def transact(self, writes: tuple[Write, ...]) -> None:
        if not all(self._fits(write) for write in writes):
            raise StoreConflict("A row was written since it was read.")
        for write in writes:
            self._apply(write)

    def _fits(self, write: Write) -> bool:
        there = self.rows.get(write.key)
        match write:
            case Create():
                return there is None
            case Replace() | Delete():
                return there is not None and write.etag in {None, there.etag}
            case Put():
                return True

    def _apply(self, write: Write) -> None:
        if isinstance(write, Delete):
            del self.rows[write.key]
            del self.keys[bisect_left(self.keys, order(write.key), key=order)]
            return
        if write.key not in self.rows:
            self.keys.insert(bisect_left(self.keys, order(write.key), key=order), write.key)
        self.rows[write.key] = Stored(write.record, str(next(self.etags)))


class MemoryCallStore:
    """A `CallStore` that is gone with the process. No method gives way to other tasks."""

    def __init__(self) -> None:
        self._shards = [_Shard() for _ in range(SHARDS)]

    async def get(self, call_id: str) -> Stored[Call] | None:
        """The record of a call, active or ended."""
        return self._read(call_id, rows.active_key(call_id), Call) or self._read(call_id, rows.ended_key(call_id), Call)

    async def get_operation(self, call_id: str, operation_id: str) -> Stored[Operation] | None:
        """One operation of a call."""
        return self._read(call_id, rows.operation_key(call_id, operation_id), Operation)

    async def commit(self, change: Change) -> None:
        """Write a change, all or nothing. Raises `StoreConflict`."""
        shard = self._shards[shard_of(change.after.id)]
        there = rows.new_events(change).keys() & shard.rows.keys() if change.before else set()
        shard.transact(rows.writes(change, there))

    async def scan(self, shard: int) -> AsyncGenerator[Progress | Stored[Watermark] | Lease]:
        """All that a sweep of a shard reads: progress, watermark, leases."""
        table = self._shards[shard]
        for key in table.between(rows.of_a_sweep()):
            match table.rows.get(key):  # it may be gone since: a scan is no snapshot
                case Stored(value=Call() as call):
                    yield call.lease
                case Stored(value=Progress() as progress):
                    yield progress
                case Stored(value=Watermark() as watermark, etag=etag):
                    yield Stored(watermark, etag)

    async def list_calls(
        self,
        status: Status,
        scope: Scope = UNRESTRICTED,
        *,
        limit: int = 100,
        continuation: str | None = None,
    ) -> Page:
        """Calls of all shards: active ones by id, ended ones newest first."""

        async def fetch(shard: int, window: Window, most: int) -> list[tuple[str, Call | None]]:
            return list(islice((row for row in self._calls(shard, window) if scope.contains(row[1])), most))

        return await list_page(fetch, status, scope, limit, continuation)

    async def events(self, call_id: str) -> list[Event]:
        """The story of a call, oldest first."""
        found = self._below(call_id, f"event|{call_id}", Event)
        return sorted(found, key=lambda event: (event.at, event.digest))

    async def operations(self, call_id: str) -> list[Operation]:
        """The operations of a call, oldest first."""
        found = self._below(call_id, f"operation|{call_id}", Operation)
        return sorted(found, key=lambda operation: (operation.known_at, operation.id))

    async def watermark(self, shard: int) -> Watermark | None:
        """When the shard was last swept."""
        stored = self._shards[shard].rows.get(rows.WATERMARK)
        return stored.value if stored and isinstance(stored.value, Watermark) else None

    async def put_watermark(self, shard: int, watermark: Watermark, etag: str | None = None) -> None:
        """Note that the shard was swept. Of two sweeps the one that began last stands."""
        stored = self._shards[shard].rows.get(rows.WATERMARK)
        there = await self.watermark(shard)
        is_the_one_found = stored is not None and stored.etag == etag
        if is_the_one_found or there is None or there.sweep_started_at <= watermark.sweep_started_at:
            self._shards[shard].transact((Put(rows.WATERMARK, watermark),))

    async def put_progress(self, shard: int, progress: Progress) -> None:
        """Note how far a sweep came."""
        self._shards[shard].transact((Put(rows.PROGRESS, progress),))

    async def switch(self) -> WatchdogState | None:
        """The last dead man's switch that was left."""
        stored = self._shards[0].rows.get(rows.SWITCH)
        return stored.value if stored and isinstance(stored.value, WatchdogState) else None

    async def put_switch(self, switch: WatchdogState) -> None:
        """Note that a dead man's switch was left."""
        self._shards[0].transact((Put(rows.SWITCH, switch),))

    async def keyed(self, call_id: str, name: str) -> Stored[IdempotencyRecord] | None:
        """The request that had this `Idempotency-Key`."""
        return self._read(call_id, rows.idempotency_key(call_id, name), IdempotencyRecord)

    async def claim_key(
        self, call_id: str, name: str, request: IdempotencyRecord, before: Stored[IdempotencyRecord] | None
    ) -> None:
        """Take the key for a request, if it is as it was read. Raises `StoreConflict`."""
        key = rows.idempotency_key(call_id, name)
        write = Replace(key, request, before.etag) if before else Create(key, request)
        self._shards[shard_of(call_id)].transact((write,))

    async def settle_key(
        self, call_id: str, name: str, claimed: Stored[IdempotencyRecord], request: IdempotencyRecord | None
    ) -> None:
        """Write down what became of the request that claimed the key; None: give it back. Raises `StoreConflict`."""
        key = rows.idempotency_key(call_id, name)
        write = Replace(key, request, claimed.etag) if request else Delete(key, claimed.etag)
        self._shards[shard_of(call_id)].transact((write,))

    async def secret(self) -> bytes:
        """A key that nobody outside knows: made when it is first asked for."""
        table = self._shards[0]
        if rows.SEAL not in table.rows:
            table.transact((Create(rows.SEAL, rows.new_secret()),))
        found = table.rows[rows.SEAL].value
        assert isinstance(found, bytes)  # noqa: S101 (nothing else is written there)
        return found

    async def purge(self, shard: int, ended_before: datetime, limit: int) -> int:
        """Delete up to `limit` calls that ended before that time, the oldest first. How many it were."""
        table = self._shards[shard]
        expired = table.between(rows.ended_before(ended_before))[::-1][:limit]
        for key in expired:
            call_id = rows.last_part(key)
            keys = [key, rows.ended_key(call_id)]
            for kind in ("event", "operation", "idempotency"):
                keys += table.between(rows.below(f"{kind}|{call_id}"))
            table.transact(tuple(Delete(each) for each in keys))
        return len(expired)

    def _read[T](self, call_id: str, key: str, kind: type[T]) -> Stored[T] | None:
        stored = self._shards[shard_of(call_id)].rows.get(key)
        return Stored(stored.value, stored.etag) if stored and isinstance(stored.value, kind) else None

    def _below[T](self, call_id: str, prefix: str, kind: type[T]) -> list[T]:
        shard = self._shards[shard_of(call_id)]
        records = (shard.rows[key].value for key in shard.between(rows.below(prefix)))
        return [record for record in records if isinstance(record, kind)]

    def _calls(self, shard: int, window: Window) -> Iterator[tuple[str, Call]]:
        table = self._shards[shard]
        for key in table.between(window):
            stored = table.rows.get(key)  # it may be gone since: a scan is no snapshot
            if stored and isinstance(stored.value, Call):
                yield key, stored.value
