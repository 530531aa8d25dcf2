"""Calls in memory, for proofs in virtual time: the rules of Table Storage without Table Storage."""

from bisect import bisect_left, bisect_right
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count, islice

from shared.domain.calls import Call, Event, IdempotencyRecord, Operation, Status
from shared.domain.leases import Lease, Progress, WatchdogState, Watermark
from shared.domain.scopes import UNRESTRICTED, Scope
from shared.errors import StoreConflict
from shared.storage import rows
from shared.storage.paging import list_page
from shared.storage.rows import Create, Delete, KeyRange, Put, Record, Replace, Write, sort_key
from shared.storage.store import SHARDS, Change, Page, Stored, shard_of


@dataclass(slots=True)
class _Shard:
    """A partition: rows by key, with a new ETag at each write, changed by transactions."""

    keys: list[str] = field(default_factory=list)  # sorted
    rows: dict[str, Stored[Record]] = field(default_factory=dict)
    etags: Iterator[int] = field(default_factory=count)

    def keys_in(self, key_range: KeyRange) -> list[str]:
        first = bisect_right(self.keys, sort_key(key_range.above), key=sort_key)
        return self.keys[first : bisect_left(self.keys, sort_key(key_range.below), key=sort_key)]

    def transact(self, writes: tuple[Write, ...]) -> None:
        if not all(self._can_apply(write) for write in writes):
            raise StoreConflict("A row was written since it was read.")
        for write in writes:
            self._apply(write)

    def _can_apply(self, write: Write) -> bool:
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
            del self.keys[bisect_left(self.keys, sort_key(write.key), key=sort_key)]
            return
        if write.key not in self.rows:
            self.keys.insert(bisect_left(self.keys, sort_key(write.key), key=sort_key), write.key)
        self.rows[write.key] = Stored(write.record, str(next(self.etags)))


class MemoryCallStore:
    """A `CallStore` that is gone with the process. No method gives way to other tasks."""

    def __init__(self) -> None:
        self._shards = [_Shard() for _ in range(SHARDS)]

    async def get(self, call_id: str) -> Stored[Call] | None:
        """The record of a call, active or ended."""
        return self._get(call_id, rows.active_key(call_id), Call) or self._get(call_id, rows.ended_key(call_id), Call)

    async def get_operation(self, call_id: str, operation_id: str) -> Stored[Operation] | None:
        """One operation of a call."""
        return self._get(call_id, rows.operation_key(call_id, operation_id), Operation)

    async def commit(self, change: Change) -> None:
        """Write a change, all or nothing. Raises `StoreConflict`."""
        shard = self._shards[shard_of(change.after.id)]
        there = rows.new_events(change).keys() & shard.rows.keys() if change.before else set()
        shard.transact(rows.plan_writes(change, there))

    async def scan(self, shard: int) -> AsyncGenerator[Progress | Stored[Watermark] | Lease]:
        """All that a sweep of a shard reads: progress, watermark, leases."""
        table = self._shards[shard]
        for key in table.keys_in(rows.sweep_range()):
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

        async def fetch(shard: int, key_range: KeyRange, limit: int) -> list[tuple[str, Call | None]]:
            return list(islice((row for row in self._calls(shard, key_range) if scope.contains(row[1])), limit))

        return await list_page(fetch, status, scope, limit, continuation)

    async def list_events(self, call_id: str) -> list[Event]:
        """The story of a call, oldest first."""
        found = self._records_in(call_id, f"event|{call_id}", Event)
        return sorted(found, key=lambda event: (event.at, event.digest))

    async def list_operations(self, call_id: str) -> list[Operation]:
        """The operations of a call, oldest first."""
        found = self._records_in(call_id, f"operation|{call_id}", Operation)
        return sorted(found, key=lambda operation: (operation.known_at, operation.id))

    async def get_watermark(self, shard: int) -> Watermark | None:
        """When the shard was last swept."""
        stored = self._shards[shard].rows.get(rows.WATERMARK_ROW)
        return stored.value if stored and isinstance(stored.value, Watermark) else None

    async def put_watermark(self, shard: int, watermark: Watermark, etag: str | None = None) -> None:
        """Note that the shard was swept. Of two sweeps the one that began last stands."""
        stored = self._shards[shard].rows.get(rows.WATERMARK_ROW)
        there = await self.get_watermark(shard)
        is_the_one_found = stored is not None and stored.etag == etag
        if is_the_one_found or there is None or there.sweep_started_at <= watermark.sweep_started_at:
            self._shards[shard].transact((Put(rows.WATERMARK_ROW, watermark),))

    async def put_progress(self, shard: int, progress: Progress) -> None:
        """Note how far a sweep came."""
        self._shards[shard].transact((Put(rows.PROGRESS_ROW, progress),))

    async def get_watchdog_state(self) -> WatchdogState | None:
        """The last dead man's switch that was left."""
        stored = self._shards[0].rows.get(rows.WATCHDOG_ROW)
        return stored.value if stored and isinstance(stored.value, WatchdogState) else None

    async def put_watchdog_state(self, state: WatchdogState) -> None:
        """Note that a dead man's switch was left."""
        self._shards[0].transact((Put(rows.WATCHDOG_ROW, state),))

    async def get_idempotency_record(self, call_id: str, name: str) -> Stored[IdempotencyRecord] | None:
        """The request that had this `Idempotency-Key`."""
        return self._get(call_id, rows.idempotency_record_key(call_id, name), IdempotencyRecord)

    async def claim_idempotency_key(
        self, call_id: str, name: str, request: IdempotencyRecord, before: Stored[IdempotencyRecord] | None
    ) -> None:
        """Take the key for a request, if it is as it was read. Raises `StoreConflict`."""
        key = rows.idempotency_record_key(call_id, name)
        write = Replace(key, request, before.etag) if before else Create(key, request)
        self._shards[shard_of(call_id)].transact((write,))

    async def settle_idempotency_key(
        self, call_id: str, name: str, claimed: Stored[IdempotencyRecord], request: IdempotencyRecord | None
    ) -> None:
        """Write down what became of the request that claimed the key; None: give it back. Raises `StoreConflict`."""
        key = rows.idempotency_record_key(call_id, name)
        write = Replace(key, request, claimed.etag) if request else Delete(key, claimed.etag)
        self._shards[shard_of(call_id)].transact((write,))

    async def get_continuation_key(self) -> bytes:
        """A key that nobody outside knows: made when it is first asked for."""
        table = self._shards[0]
        if rows.CONTINUATION_KEY_ROW not in table.rows:
            table.transact((Create(rows.CONTINUATION_KEY_ROW, rows.new_continuation_key()),))
        found = table.rows[rows.CONTINUATION_KEY_ROW].value
        assert isinstance(found, bytes)  # noqa: S101 (nothing else is written there)
        return found

    async def purge(self, shard: int, ended_before: datetime, limit: int) -> int:
        """Delete up to `limit` calls that ended before that time, the oldest first. How many it were."""
        table = self._shards[shard]
        expired = table.keys_in(rows.ended_before_range(ended_before))[::-1][:limit]
        for key in expired:
            call_id = rows.id_of_key(key)
            keys = [key, rows.ended_key(call_id)]
            for kind in ("event", "operation", "idempotency"):
                keys += table.keys_in(rows.prefix_range(f"{kind}|{call_id}"))
            table.transact(tuple(Delete(each) for each in keys))
        return len(expired)

    def _get[T](self, call_id: str, key: str, kind: type[T]) -> Stored[T] | None:
        stored = self._shards[shard_of(call_id)].rows.get(key)
        return Stored(stored.value, stored.etag) if stored and isinstance(stored.value, kind) else None

    def _records_in[T](self, call_id: str, prefix: str, kind: type[T]) -> list[T]:
        shard = self._shards[shard_of(call_id)]
        records = (shard.rows[key].value for key in shard.keys_in(rows.prefix_range(prefix)))
        return [record for record in records if isinstance(record, kind)]

    def _calls(self, shard: int, key_range: KeyRange) -> Iterator[tuple[str, Call]]:
        table = self._shards[shard]
        for key in table.keys_in(key_range):
            stored = table.rows.get(key)  # it may be gone since: a scan is no snapshot
            if stored and isinstance(stored.value, Call):
                yield key, stored.value
