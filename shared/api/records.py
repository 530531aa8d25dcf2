"""The management requests that read: calls, their event logs, their operations."""

from dataclasses import dataclass, replace
from typing import Self

from shared.api.continuation_tokens import ContinuationSigner
from shared.clock import Clock
from shared.domain.calls import Call, Event, Operation, Status
from shared.domain.leases import Timing, Watermark, credible
from shared.domain.scopes import UNRESTRICTED, Scope
from shared.errors import CallNotFound, OperationNotFound
from shared.storage.store import CallStore, Page, Stored, shard_of


@dataclass(frozen=True, slots=True)
class CallWithWatermark:
    """A call with the watermark of its shard, from which its lease follows."""

    call: Call
    watermark: Watermark | None


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of calls. `continuation` asks for the next page; `unreadable` has ids, as in `store.Page`."""

    calls: list[CallWithWatermark]
    continuation: str | None
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Records:
    """Reads calls for one caller. Calls outside of the caller's scope are treated as absent.

    Parameters
    ----------
    signer
        Signs continuations. All callers share it, because it reads its key only once.
    """

    store: CallStore
    clock: Clock
    timing: Timing
    signer: ContinuationSigner
    scope: Scope = UNRESTRICTED

    def scoped_to(self, scope: Scope) -> Self:
        """Return a copy for a caller with this scope."""
        return replace(self, scope=scope)

    async def read_call(self, call_id: str) -> CallWithWatermark:
        """Return a call. Raise `CallNotFound` if it is not on record."""
        call = (await self.get_stored(call_id)).value
        return CallWithWatermark(call, await self.get_watermark(shard_of(call_id)))

    async def list_calls(
        self, status: Status, tenant_id: str | None, limit: int, continuation: str | None, by: str
    ) -> Listing:
        """Return a page of calls.

        Parameters
        ----------
        limit
            The largest number of calls on the page.
        continuation
            The continuation of the page before, or None for the first page.
        by
            The caller's name. A continuation is valid only for the caller that received it.

        Raises
        ------
        InvalidRequest
            The continuation is not one of this list and caller.
        """
        store_continuation = None if continuation is None else await self.signer.verify(continuation, by)
        scope = self.scope.narrow_to(tenant_id)
        if scope.is_empty:
            return Listing([], None)
        page: Page[Call] = await self.store.list_calls(status, scope, limit=limit, continuation=store_continuation)
        shards = {shard_of(call.id) for call in page.records if status is Status.ACTIVE}
        watermarks = {shard: await self.get_watermark(shard) for shard in shards}
        next_continuation = None if page.continuation is None else await self.signer.sign(page.continuation, by)
        calls = [CallWithWatermark(call, watermarks.get(shard_of(call.id))) for call in page.records]
        return Listing(calls, next_continuation, page.unreadable)

    async def check_exists(self, call_id: str) -> None:
        """Raise `CallNotFound` if the call is not on record."""
        await self.get_stored(call_id)

    async def list_events(self, call_id: str) -> list[Event]:
        """Return the event log of a call, oldest first. Raise `CallNotFound` if the call is not on record."""
        await self.get_stored(call_id)
        return await self.store.list_events(call_id)

    async def list_operations(self, call_id: str) -> tuple[Call, list[Operation]]:
        """Return a call and its operations. Raise `CallNotFound` if the call is not on record."""
        stored = await self.get_stored(call_id)
        return stored.value, await self.store.list_operations(call_id)

    async def read_operation(self, call_id: str, operation_id: str) -> tuple[Call, Operation]:
        """Return a call and one of its operations. Raise `CallNotFound` or `OperationNotFound` if one is missing."""
        stored = await self.get_stored(call_id)
        operation = await self.store.get_operation(call_id, operation_id)
        if operation is None:
            raise OperationNotFound(call_id, operation_id)
        return stored.value, operation.value

    async def get_watermark(self, shard: int) -> Watermark | None:
        """Return the watermark of a shard, which proves a sweep; None if there is none, or if its times are wrong."""
        return credible(await self.store.get_watermark(shard), self.clock.now(), self.timing)

    async def get_stored(self, call_id: str) -> Stored[Call]:
        """Return a call as it is on record. Raise `CallNotFound` if it is absent or outside of the scope."""
        stored = await self.store.get(call_id)
        if stored and not self.scope.contains(stored.value):
            if stored.value.status is Status.ACTIVE:  # an absent call takes one more read, so this one does too
                await self.store.get_operation(call_id, call_id)
            stored = None
        if stored is None:
            raise CallNotFound(call_id)
        return stored
