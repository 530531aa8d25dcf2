"""Helpers of the store's tests: calls to write, ways to write them, and a table in which races can show."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from random import Random

from shared.domain.calls import Call, Event, Status, Termination, TerminationSource
from shared.domain.leases import Lease
from shared.domain.scopes import UNRESTRICTED, Scope
from shared.errors import StoreConflict
from shared.storage.memory_table import MemoryTable
from shared.storage.store import CallStore, Change, Stored, shard_of
from shared.storage.table import TableRow, Write

NOW = datetime(2026, 3, 2, 8, 0, 0, 123456, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TENANT = "3f0c7a9e-55aa-4d0e-9d4c-0a6a4f0f7b11"
END = Termination(TerminationSource.NOTIFICATION, "The lease lapsed.", "keepAlive", 408, 8537, message="Call ended")


class YieldingTable(MemoryTable):
    """A table in memory that lets other tasks run in each request, so that races can show."""

    def __init__(self) -> None:
        super().__init__()
        self._random = Random(7)

    async def read(self, shard: int, key: str) -> TableRow | None:
        await asyncio.sleep(0)
        return await super().read(shard, key)

    async def write(self, shard: int, writes: Sequence[Write]) -> tuple[str, ...]:
        await asyncio.sleep(0)
        try:
            return await super().write(shard, writes)
        except StoreConflict:
            for _ in range(self._random.randrange(20)):  # as in `AzureTable`: not in step with the other losers
                await asyncio.sleep(0)
            raise


def make_call(call_id: str = "call", *, tenant: str = TENANT, at: datetime = NOW, **metadata: str) -> Call:
    return Call(call_id, tenant, "established", known_at=at, started_at=at, metadata=metadata)


def ended(call: Call, at: datetime = NOW) -> Call:
    return replace(call, state="terminated", ended_at=at, termination=END)


def notified(kind: str, at: datetime = NOW, **detail: str) -> Event:
    return Event(kind, at, detail, from_notification=True)


def ids_in(shard: int) -> Iterator[str]:
    return (call_id for call_id in (f"call-{number:05}" for number in count()) if shard_of(call_id) == shard)


async def create(store: CallStore, *calls: Call) -> None:
    await asyncio.gather(*(store.commit(Change(None, call)) for call in calls))


async def read(store: CallStore, call_id: str = "call") -> Stored[Call]:
    stored = await store.get(call_id)
    assert stored is not None
    return stored


async def leases(store: CallStore, shard: int) -> list[Lease]:
    return [record async for record in store.scan(shard) if isinstance(record, Lease)]


async def one_by_one(store: CallStore, *changes: Change) -> list[bool]:
    """Commit all changes concurrently, and return for each whether it succeeded."""

    async def succeeds(change: Change) -> bool:
        try:
            await store.commit(change)
        except StoreConflict:
            return False
        return True

    return await asyncio.gather(*map(succeeds, changes))


async def listed(store: CallStore, status: Status, limit: int = 100, scope: Scope = UNRESTRICTED) -> list[list[Call]]:
    """Return all pages of a list."""
    pages, continuation = [], None
    while True:
        page = await store.list_calls(status, scope, limit=limit, continuation=continuation)
        pages.append(list(page.records))
        continuation = page.continuation
        if continuation is None:
            return pages


async def where(store: CallStore, call_id: str) -> list[Status]:
    """Return the lists that have the call. There must be exactly one."""
    return [
        status
        for status in Status
        for page in await listed(store, status, limit=1_000)
        for call in page
        if call.id == call_id
    ]


def some_ids(shard: int, number: int) -> list[str]:
    return list(islice(ids_in(shard), number))
