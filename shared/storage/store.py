"""Calls on record: what a store can do, and the one way to change a call. Table Storage and memory implement it."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Protocol

from shared.domain.calls import Call, Event, IdempotencyRecord, Operation, Status
from shared.domain.leases import Lease, Progress, WatchdogState, Watermark
from shared.domain.scopes import UNRESTRICTED, Scope
from shared.errors import StoreConflict, StoreUnavailable
from shared.storage.column_values import Row

SHARDS = 16  # fixed: it is part of every key
MAX_WRITE_ATTEMPTS = 24  # a lost race is another's won one: so many who write to one call at once all get through


def shard_of(call_id: str) -> int:
    """The shard of a call: stable over processes and versions. Expects the canonical id."""
    return int.from_bytes(sha256(call_id.encode()).digest()[:4]) % SHARDS


@dataclass(frozen=True, slots=True)
class Stored[T]:
    """A value as it was read, with the ETag that a write of it must carry.

    `row` is the row itself, if there is one: a write of the value keeps the columns of it that we do not know.
    """

    value: T
    etag: str
    row: Row | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Change:
    """All that one transaction writes of one call.

    `before` is what was read (None: nothing was on record), `after` what shall stand. Operations are pairs of the same.
    """

    before: Stored[Call] | None
    after: Call
    events: tuple[Event, ...] = ()
    operations: tuple[tuple[Stored[Operation] | None, Operation], ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A page of calls; `continuation` asks for the next one, None after the last.

    `unreadable` has the ids of those calls of the page whose rows cannot be read.
    """

    calls: tuple[Call, ...]
    continuation: str | None
    unreadable: tuple[str, ...] = ()


class CallStore(Protocol):
    """The registry of calls: Graph has no list of them, so this is the only one.

    Every method may raise `StoreUnavailable`.
    """

    async def get(self, call_id: str) -> Stored[Call] | None:
        """The record of a call, active or ended."""
        ...

    async def get_operation(self, call_id: str, operation_id: str) -> Stored[Operation] | None:
        """One operation of a call."""
        ...

    async def commit(self, change: Change) -> None:
        """Write a change, all or nothing. Events that are on record already keep their first time.

        Raises
        ------
        StoreConflict
            Something was written since it was read: read, merge and write again.
        """
        ...

    def scan(self, shard: int) -> AsyncGenerator[Progress | Stored[Watermark] | Lease]:
        """All that a sweep of a shard reads, in one go: its progress and its watermark, if there are any, come first.

        Then come the leases of all active calls, with only the columns that a sweep needs.
        """
        ...

    async def list_calls(
        self,
        status: Status,
        scope: Scope = UNRESTRICTED,
        *,
        limit: int = 100,
        continuation: str | None = None,
    ) -> Page:
        """Calls of all shards that lie within the scope: active ones by id, ended ones newest first.

        Raises
        ------
        InvalidRequest
            The continuation is none of ours.
        """
        ...

    async def list_events(self, call_id: str) -> list[Event]:
        """The story of a call, oldest first."""
        ...

    async def list_operations(self, call_id: str) -> list[Operation]:
        """The operations of a call, oldest first."""
        ...

    async def get_watermark(self, shard: int) -> Watermark | None:
        """When the shard was last swept."""
        ...

    async def put_watermark(self, shard: int, watermark: Watermark, etag: str | None = None) -> None:
        """Note that the shard was swept. Of two sweeps the one that began last stands, whichever writes first.

        Parameters
        ----------
        etag
            Of the watermark that the scan found: that one is replaced, whatever it says. Where another one stands by
            now, or none was found, the rule holds.
        """
        ...

    async def put_progress(self, shard: int, progress: Progress) -> None:
        """Note how far a sweep came."""
        ...

    async def get_watchdog_state(self) -> WatchdogState | None:
        """The last dead man's switch that was left."""
        ...

    async def put_watchdog_state(self, state: WatchdogState) -> None:
        """Note that a dead man's switch was left: earlier ones are leftovers."""
        ...

    async def get_idempotency_record(self, call_id: str, name: str) -> Stored[IdempotencyRecord] | None:
        """The request that had this `Idempotency-Key`."""
        ...

    async def claim_idempotency_key(
        self, call_id: str, name: str, request: IdempotencyRecord, before: Stored[IdempotencyRecord] | None
    ) -> None:
        """Take the key for a request, if it is as it was read. Raises `StoreConflict`."""
        ...

    async def settle_idempotency_key(
        self, call_id: str, name: str, claimed: Stored[IdempotencyRecord], request: IdempotencyRecord | None
    ) -> None:
        """Write down what became of the request that claimed the key; None: give it back. Raises `StoreConflict`."""
        ...

    async def get_continuation_key(self) -> bytes:
        """A key that nobody outside knows, the same for all instances: made when it is first asked for."""
        ...

    async def purge(self, shard: int, ended_before: datetime, limit: int) -> int:
        """Delete up to `limit` calls that ended before that time, with all their rows. How many it were."""
        ...


type Decide = Callable[[Call | None], tuple[Call, tuple[Event, ...]] | None]


async def update(store: CallStore, call_id: str, decide: Decide) -> Call | None:
    """Read a call, let `decide` say what shall stand, write it; again, from the read, if somebody wrote in between.

    Parameters
    ----------
    decide
        Gets the call on record (or None). Returns the call as it shall be and the events to add, or None to leave
        everything as it is. It must be pure: it may be asked several times.

    Returns
    -------
    The call as it stands now.

    Raises
    ------
    StoreUnavailable
        The store did not answer, or the race was lost too often.
    """

    async def attempt() -> Call | None:
        before = await store.get(call_id)
        current = before.value if before else None
        decision = decide(current)
        if decision is None:
            return current
        after, events = decision
        await commit(store, Change(before, after, events))
        return after

    return await retry_conflicts(attempt, f"Call {call_id}")


async def commit(store: CallStore, change: Change) -> None:
    """Commit a change. If the answer is lost, or says no, read back whether the change was committed all the same.

    The storage client repeats a write whose answer is lost, and then meets its own write: that is a conflict with
    nobody. To merge once more would take the own write for another's: a new call for an old one, a new end for one
    that was told.

    Raises
    ------
    StoreConflict
        Something was written since it was read: read, merge and write again.
    StoreUnavailable
        The store did not answer, and the change is not on record, or that cannot be read.
    """
    try:
        await store.commit(change)
    except (StoreConflict, StoreUnavailable):
        if not await _is_committed(store, change):
            raise


async def _is_committed(store: CallStore, change: Change) -> bool:
    is_news = change.before is None or change.before.value != change.after
    if not is_news and not change.operations:
        return False  # only lines of the story are new: to write them once more does no harm
    if is_news:
        stored = await store.get(change.after.id)
        if stored is None or stored.value != change.after:
            return False
    for _, operation in change.operations:
        written = await store.get_operation(operation.call_id, operation.id)
        if written is None or written.value != operation:
            return False
    return True


async def retry_conflicts[T](attempt: Callable[[], Awaitable[T]], what: str) -> T:
    """Read, merge and write, again from the read as long as somebody else wrote in between.

    Raises
    ------
    StoreUnavailable
        The race was lost too often; `what` says for what.
    """
    for _ in range(MAX_WRITE_ATTEMPTS):
        with suppress(StoreConflict):
            return await attempt()
    raise StoreUnavailable(f"{what} is being written by too many at once. Try again.")
