"""Who is next in a sweep: the call with the earliest deadline, unless its tenant holds its share of the slots."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager

from shared.domain.leases import Lease, TenantApp


class TenantFairQueue:
    """Leases that wait for their keepAlive.

    Parameters
    ----------
    leases
        In the order in which they shall be taken.
    has_room
        Whether one more of a tenant may be taken now.
    """

    def __init__(self, leases: Iterable[Lease], has_room: Callable[[TenantApp], bool]) -> None:
        self._leases = deque(leases)
        self._has_room = has_room
        self._passed_over: dict[TenantApp, deque[Lease]] = {}  # in order

    def __len__(self) -> int:
        return len(self._leases) + sum(map(len, self._passed_over.values()))

    def pop(self) -> Lease | None:
        """The next one whose tenant has room."""
        for tenant_app in self._passed_over:
            if self._has_room(tenant_app):
                return self._pop_passed_over(tenant_app)
        while self._leases:
            lease = self._leases.popleft()
            if lease.tenant_app not in self._passed_over and self._has_room(lease.tenant_app):
                return lease
            self._passed_over.setdefault(lease.tenant_app, deque()).append(lease)
        return None

    def requeue(self, leases: Iterable[Lease]) -> None:
        """Those that were taken, and are to be left to another sweep."""
        self._leases.extend(leases)

    def remaining(self) -> list[Lease]:
        """Those that were not taken, in no order."""
        return [*self._leases, *(lease for leases in self._passed_over.values() for lease in leases)]

    def _pop_passed_over(self, tenant_app: TenantApp) -> Lease:
        leases = self._passed_over[tenant_app]
        lease = leases.popleft()
        if not leases:
            del self._passed_over[tenant_app]
        return lease


class LeaseBudget:
    """The leases of a process: another shard is read only while fewer than `limit` of those at hand are not done.

    So that small shards are swept all at once, where the calls of one slow tenant hold up nobody else's, while of large
    ones little more than one lies in memory.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._outstanding = 0
        self._reading = asyncio.Lock()
        self._has_capacity = asyncio.Event()
        self._has_capacity.set()

    @asynccontextmanager
    async def wait_for_capacity(self) -> AsyncGenerator[None]:
        """Wait for the turn to read a shard; it ends when the shard's leases were taken."""
        async with self._reading:
            await self._has_capacity.wait()
            yield

    def reserve(self, count: int) -> "LeaseReservation":
        """Take the leases of a shard."""
        self.adjust(count)
        return LeaseReservation(self, count)

    def adjust(self, by: int) -> None:
        """So many more, or fewer, are at hand."""
        self._outstanding += by
        if self._outstanding < self._limit:
            self._has_capacity.set()
        else:
            self._has_capacity.clear()


class LeaseReservation:
    """The leases of one shard, until `release`."""

    def __init__(self, budget: LeaseBudget, count: int) -> None:
        self._budget = budget
        self._count = count

    def release_one(self) -> None:
        """One of them need not be held any more."""
        self._count -= 1
        self._budget.adjust(-1)

    def release(self) -> None:
        """Nor do the others: they are left to another sweep."""
        self._budget.adjust(-self._count)
        self._count = 0
