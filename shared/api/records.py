"""What a caller may read: calls, their stories, their operations."""

import copy
from dataclasses import dataclass
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
    """A call with what is needed to tell of its lease."""

    call: Call
    watermark: Watermark | None


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of calls, and the continuation that asks for the next. `unreadable` has ids, as of `store.Page`."""

    calls: list[CallWithWatermark]
    continuation: str | None
    unreadable: tuple[str, ...] = ()


class Records:
    """The registry of calls as a caller sees it: of everything, until it is bound to a scope."""

    def __init__(self, store: CallStore, clock: Clock, timing: Timing) -> None:
        self._store = store
        self._clock = clock
        self._timing = timing
        self._signer = ContinuationSigner(store)
        self.scope = UNRESTRICTED

    def scoped_to(self, scope: Scope) -> Self:
        """The same for a caller who is bound to a scope: other calls are as if they did not exist."""
        bound = copy.copy(self)
        bound.scope = scope
        return bound

    async def read_call(self, call_id: str) -> CallWithWatermark:
        """A call.

        Raises
        ------
        CallNotFound
            It is not on record.
        """
        call = (await self.get_stored(call_id)).value
        return CallWithWatermark(call, await self.get_watermark(shard_of(call_id)))

    async def list_calls(
        self, status: Status, tenant_id: str | None, limit: int, continuation: str | None, by: str
    ) -> Listing:
        """A page of calls. Its continuation is good for the same caller alone."""
        store_continuation = None if continuation is None else await self._signer.verify(continuation, by)
        scope = self.scope.narrow_to(tenant_id)
        if scope.is_empty:
            return Listing([], None)
        page: Page = await self._store.list_calls(status, scope, limit=limit, continuation=store_continuation)
        shards = {shard_of(call.id) for call in page.calls if status is Status.ACTIVE}
        watermarks = {shard: await self.get_watermark(shard) for shard in shards}
        next_continuation = None if page.continuation is None else await self._signer.sign(page.continuation, by)
        calls = [CallWithWatermark(call, watermarks.get(shard_of(call.id))) for call in page.calls]
        return Listing(calls, next_continuation, page.unreadable)

    async def check_exists(self, call_id: str) -> None:
        """Raise `CallNotFound` if the call is not on record."""
        await self.get_stored(call_id)

    async def list_events(self, call_id: str) -> list[Event]:
        """The story of a call. Raises `CallNotFound`."""
        await self.get_stored(call_id)
        return await self._store.list_events(call_id)

    async def list_operations(self, call_id: str) -> tuple[Call, list[Operation]]:
        """The operations of a call. Raises `CallNotFound`."""
        stored = await self.get_stored(call_id)
        return stored.value, await self._store.list_operations(call_id)

    async def read_operation(self, call_id: str, operation_id: str) -> tuple[Call, Operation]:
        """One operation. Raises `CallNotFound` or `OperationNotFound`."""
        stored = await self.get_stored(call_id)
        operation = await self._store.get_operation(call_id, operation_id)
        if operation is None:
            raise OperationNotFound(call_id, operation_id)
        return stored.value, operation.value

    async def get_watermark(self, shard: int) -> Watermark | None:
        """What proves that the shard was swept."""
        return credible(await self._store.get_watermark(shard), self._clock.now(), self._timing)

    async def get_stored(self, call_id: str) -> Stored[Call]:
        """A call as it is on record. Raises `CallNotFound`, also where it is none of the caller's."""
        stored = await self._store.get(call_id)
        if stored and not self.scope.contains(stored.value):
            if stored.value.status is Status.ACTIVE:  # so that it takes as many reads as what is not there
                await self._store.get_operation(call_id, call_id)
            stored = None
        if stored is None:
            raise CallNotFound(call_id)
        return stored
